"""Tests of the direction of imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from harness.repository import ROOT

FOLDER = Path(pipeline.__path__[0])

TOP_TO_BOTTOM = (
    "engine",
    "self_test",
    "assembly",
    "images.examination",
    "decode.stage",
    "decode.supervisor",
    "decode.dispatcher",
    "decode.worker_pool",
    "decode.worker_health",
    "decode.wait_forecast",
    "decode.worker_progress",
    "decode.worker_process",
    "decode.pipe_queue",
    "decode.pipe_event",
    "decode.forkserver",
    "decode.process_state",
    "freezes",
    "decode.worker",
    "model.batcher",
    "model.device_probe",
    "model.device_times",
    "model.device_thread",
    "ready_queue",
    "model.bisection",
    "model.source",
    "model.head_results",
    "model.users_function",
    "model.torchvision_classifier",
    "model.torchvision_detector",
    "model.torchvision_segmenter",
    "model.torchvision_weights",
    "model.timm_model",
    "model.model_file",
    "model.exported_program",
    "model.onnx_network",
    "model.torchscript_file",
    "model.fetch",
    "model.warm_up_images",
    "model.recognition",
    "model.transform_steps",
    "model.step_names",
    "model.nonfinite",
    "model.callable_transform",
    "model.trial",
    "model.device_kind",
    "usable_cores",
    "model.eager_device",
    "model.precision",
    "model.cpu",
    "model.runtimes",
    "model.runtime_openvino",
    "model.runtime_compile",
    "model.runtime_torch",
    "model.runtime",
    "model.known_speeds",
    "model.cuda",
    "model.compiler",
    "model.cuda_graph",
    "model.folding",
    "model.torchscript",
    "model.reference",
    "model.agreement",
    "model.device",
    "model.fit_module",
    "model.device_module",
    "model.chosen_head",
    "model.saved_module",
    "model.embed",
    "model.multilabel",
    "model.classify",
    "model.detect",
    "model.segment",
    "model.head_fit",
    "model.catalogue",
    "model.function_name",
    "model.checkpoint",
    "model.checkpoint_file",
    "model.input_size",
    "model.labels",
    "model.preset",
    "model.intake",
    "model.served",
    "model.resize_to_fit",
    "torchvision_models",
    "decode.fair_queue",
    "task",
    "decode.memory",
    "pace",
    "images.users_transform",
    "images.decode",
    "images.limits",
    "images.cost",
    "images.pillow",
    "images.png",
    "images.webp",
    "images.jpeg",
    "images.orientation",
    "images.jpeg_damage",
    "images.jpeg_sampling",
    "images.fit",
    "images.resize",
    "decode.messages",
    "decode.sandbox",
    "decode.system_calls",
    "decode.slots",
    "input_spec",
    "images.geometry",
    "images.header",
    "images.jpeg_entropy",
    "images.jpeg_header",
    "images.jpeg_scans",
    "images.signature",
    "images.piecewise",
    "records",
    "transform_cost",
    "result",
    "users_code",
    "head_parameters",
    "stats",
    "config",
    "live_limits",
    "strict_settings",
    "bounds",
    "model.source_kind",
    "pinned_file",
    "errors",
)
"""A module imports only those below it."""

FOREIGN = ("commands", "deployments", "tuning", "ray", "starlette", "fastapi", "uvicorn", "httpx")


def imports(path: Path) -> set[str]:
    """Return every module that the file imports, at any level of nesting."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} imports relatively"
            named.add(node.module or "")
    return named


def test_every_module_has_its_place() -> None:
    files = [path.relative_to(FOLDER) for path in FOLDER.rglob("*.py") if path.name != "__init__.py"]
    assert {".".join(path.with_suffix("").parts) for path in files} == {*TOP_TO_BOTTOM}


@pytest.mark.parametrize("module", TOP_TO_BOTTOM)
def test_imports_run_downwards(module: str) -> None:
    """No module imports one above it or itself, so there are no import cycles."""
    own = {name.removeprefix("pipeline.") for name in imports(_file(module)) if name.startswith("pipeline")}
    below = TOP_TO_BOTTOM[TOP_TO_BOTTOM.index(module) + 1 :]
    assert own <= set(below)


@pytest.mark.parametrize("module", TOP_TO_BOTTOM)
def test_the_pipeline_names_neither_ray_nor_http(module: str) -> None:
    assert not {name.split(".")[0] for name in imports(_file(module))} & set(FOREIGN)


@pytest.mark.parametrize(
    ("room", "others"), [("images", ("decode", "model")), ("decode", ("model",)), ("model", ("decode",))]
)
def test_the_stages_do_not_know_each_other(room: str, others: tuple[str, ...]) -> None:
    """The stages do not import each other, and the image code imports neither; the engine joins them."""
    for path in (FOLDER / room).glob("*.py"):
        assert not any(name.startswith(f"pipeline.{other}.") for name in imports(path) for other in others), path.name


def test_the_pipeline_loads_neither_ray_nor_http() -> None:
    """The pipeline loads neither Ray nor an HTTP library, so it works without them.

    Nor does it load torch's compiler, which would double the time of a start (`torchvision_models.py`).
    """
    loaded = _loaded("pipeline.engine")
    assert {"torch", "torchvision.ops.roi_align"} <= loaded
    assert not loaded & {*FOREIGN, "torch._dynamo"}


def test_the_service_does_not_know_the_command_line() -> None:
    for path in FOLDER.with_name("deployments").rglob("*.py"):
        assert not any(name.split(".")[0] == "commands" for name in imports(path)), path.name


@pytest.mark.parametrize("module", ["deployments.local.launcher", "deployments.app"])
def test_what_runs_no_model_loads_no_torch(module: str) -> None:
    """A process that runs no model loads no torch, which takes seconds and half a gigabyte.

    The launcher runs as long as the service.
    """
    assert "torch" not in _loaded(module)


PROJECT = ("benchmarks", "commands", "deployments", "harness", "pipeline", "tests", "tuning")

MAY_IMPORT = {
    "pipeline": (),
    "deployments": ("pipeline",),
    "harness": ("deployments", "pipeline"),
    "tuning": ("harness", "deployments", "pipeline"),
    "commands": ("tuning", "harness", "deployments", "pipeline"),
    "benchmarks": ("harness", "deployments", "pipeline"),
    "tests": ("commands", "harness", "deployments", "pipeline"),
}
"""The other folders that the modules of a folder import."""

MEASURES_TUNING = "benchmarks/tuning.py"
"""The benchmark of `darkroom tune`: it imports what it measures."""


@pytest.mark.parametrize("folder", PROJECT)
def test_folders_share_by_the_harness_alone(folder: str) -> None:
    """Benchmarks, tuning and tests do not import one another, except that a test of benchmarks imports its subject."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        allowed = {folder, *MAY_IMPORT[folder], *_tested_by(path)} | ({"tuning"} if name == MEASURES_TUNING else set())
        assert {module.split(".")[0] for module in imports(path)} & set(PROJECT) <= allowed, name


def test_only_one_command_needs_the_extra_tune() -> None:
    """Only `darkroom tune` needs the packages of `darkroom[tune]`; serving, checking and labelling work without."""
    extra = {"matplotlib", "ruamel", "tuning"}
    paths = [
        path for folder in ("pipeline", "deployments", "harness", "commands") for path in (ROOT / folder).rglob("*.py")
    ]
    needing = [path.name for path in paths if {name.split(".")[0] for name in imports(path)} & extra]
    assert needing == ["figures.py", "tune_run.py"]
    assert not [path for path in paths if "harness.figures" in imports(path)], "figures are for tuning and benchmarks"


def _tested_by(path: Path) -> set[str]:
    """Return the folder that the tests in this file's folder are for."""
    return {"tuning"} if path.name == "test_tune.py" else {"benchmarks", "tuning"} & {*path.relative_to(ROOT).parts[1:]}


def _file(module: str) -> Path:
    return FOLDER.joinpath(*module.split(".")).with_suffix(".py")


def _loaded(module: str) -> set[str]:
    """Return the modules that are loaded after an import."""
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
