"""Tests of networks in files: torch.export, TorchScript and ONNX give the scores of the module they were made from."""

import asyncio
import logging
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from deployments.http.application import HttpApplication
from deployments.http.auth import Access
from deployments.service import InferenceService
from deployments.service_config import ServiceConfig
from harness.photographs import NAMES, photograph
from pipeline import Engine, PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.input_spec import InputSpec
from pipeline.model.cuda import CudaDevice
from pipeline.model.device import collect
from pipeline.model.device_module import DeviceModule
from pipeline.model.saved_module import SavedModule
from pipeline.model.served import Preprocess
from pipeline.model.source import load_model
from pipeline.records import EncodedImage, Outcome
from tests.support.device_kinds import device_of
from tests.support.fake_engine import FakeRecorder
from tests.support.image_files import png

SIDE, CLASSES = 32, 5
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
CONFIG: dict[str, Any] = {
    "runtime": "torch",
    "device": "cpu",
    "resize_px": SIDE,
    "crop_px": SIDE,
    "mean": MEAN,
    "std": STD,
    "decode": "exact",
    "batch_sizes": (1, 2, 4),
    "slots": 8,
    "decode_workers": 1,
    "spare_workers": 0,
}
IMAGES = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


class _Network(nn.Module):
    """A small classifier that a file may hold; its `view` fails on a layout that it was not saved with."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear = nn.Conv2d(3, 4, 8, stride=8), nn.Linear(64, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits [n, classes]."""
        logits: Tensor = self.linear(self.conv(images).relu().view(-1, 64))
        return logits


NETWORK = _Network().eval()


def exported(path: Path, dynamic: Any = None, batch: int = 2, dtype: torch.dtype = torch.float32) -> Path:
    network = _Network().eval().to(dtype)
    shapes = ({0: dynamic},) if dynamic else None
    program = torch.export.export(network, (torch.zeros(batch, 3, SIDE, SIDE, dtype=dtype),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


def scripted(path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        torch.jit.save(torch.jit.script(_Network().eval()), path)
    return path


def onnx_file(path: Path, *, batch: int | str = "n", of_bytes: bool = False, outputs: int = 1) -> Path:
    """Writes the same network by hand; with `of_bytes` it takes uint8 [n, side, side, 3] and normalises it itself."""
    initializers = [numpy_helper.from_array(value.numpy(), name) for name, value in NETWORK.state_dict().items()]
    shape: list[int | str] = [batch, SIDE, SIDE, 3] if of_bytes else [batch, 3, SIDE, SIDE]
    nodes, images = [], "images"
    if of_bytes:
        numbers = {"scale": 1 / (255 * np.array(STD)), "shift": -np.array(MEAN) / np.array(STD)}
        initializers += [numpy_helper.from_array(value.astype("float32"), name) for name, value in numbers.items()]
        nodes = [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "shift"], ["normalised"]),
            helper.make_node("Transpose", ["normalised"], ["planes"], perm=[0, 3, 1, 2]),
        ]
        images = "planes"
    nodes += [
        helper.make_node("Conv", [images, "conv.weight", "conv.bias"], ["maps"], strides=[8, 8]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("Flatten", ["positive"], ["features"]),
        helper.make_node("Gemm", ["features", "linear.weight", "linear.bias"], ["logits"], transB=1),
    ]
    kind = TensorProto.UINT8 if of_bytes else TensorProto.FLOAT
    given = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 64]),
    ]
    taken = [helper.make_tensor_value_info("images", kind, shape)]
    graph = helper.make_graph(nodes, "network", taken, given[:outputs], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


BATCH = torch.export.Dim("batch", min=1, max=2)
FILES: dict[str, Callable[[Path], Path]] = {
    "any.pt2": lambda path: exported(path, torch.export.Dim.DYNAMIC),
    "two.pt2": lambda path: exported(path, BATCH),
    "fixed.pt": lambda path: exported(path, batch=4),  # the content tells the kind, not the suffix
    "script.pth": scripted,
    "any.onnx": onnx_file,
    "fixed.onnx": lambda path: onnx_file(path, batch=2),
    "bytes.onnx": lambda path: onnx_file(path, of_bytes=True),
}


@pytest.fixture(scope="module", params=FILES)
def file(request: pytest.FixtureRequest, folder: Path) -> Path:
    return FILES[request.param](folder / request.param)


def settings_of(file: Path) -> dict[str, Any]:
    own = {"mean": None, "std": None} if file.name == "bytes.onnx" else {}
    return {**CONFIG, **own, "model": str(file)}


def test_a_file_gives_the_scores_of_its_module(file: Path) -> None:
    """Batches of any number get the scores of the module that the file was made from."""
    served = load_model(PipelineConfig(**settings_of(file)))
    module = served.module.eval()
    assert isinstance(module, SavedModule)
    pixels = torch.randint(256, (5, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(2)).float()
    normalised = (pixels / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    given = pixels if module.of_bytes else normalised
    with torch.inference_mode():
        expected = NETWORK(normalised)
        for count in range(1, 6):
            got = module(given[:count].to(memory_format=torch.channels_last))
            torch.testing.assert_close(got, expected[:count], atol=1e-4, rtol=1e-4)
    assert [*served.head.labels] == [f"class {index}" for index in range(CLASSES)]


WAYS = {
    "any.pt2": "a TorchScript graph",
    "two.pt2": "an exported program, 1 to 2 images at a time",
    "fixed.pt": "an exported program, exactly 4 images at a time",
    "script.pth": "a TorchScript graph",
    "any.onnx": "ONNX Runtime",
    "fixed.onnx": "ONNX Runtime, 2 images at a time",
    "bytes.onnx": "ONNX Runtime",
}


@pytest.fixture(scope="module")
def photographs() -> list[bytes]:
    return [png(photograph(name).resize((SIDE, SIDE))) for name in NAMES]


class OneEngine(InferenceService):
    """The service as a replica has it, without Ray."""

    def __init__(self, engine: Engine) -> None:
        async def submit(images: list[EncodedImage]) -> Future[list[Outcome]]:
            return engine.submit([images])[0]

        super().__init__(engine, submit, FakeRecorder())


def answered(engine: Engine, photographs: list[bytes]) -> list[Any]:
    """Returns the results of one request over HTTP."""
    app = HttpApplication(OneEngine(engine), ServiceConfig(), Access(None, None), dict, lambda _: {}, lambda: None)

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app.asgi())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            files = [("image", (f"{number}.png", data)) for number, data in enumerate(photographs)]
            return await client.post("/predict?top_k=5", files=files)

    return list(asyncio.run(post()).raise_for_status().json()["results"])


@pytest.mark.parametrize("name", ["any.pt2", "fixed.pt", "script.pth", "fixed.onnx", "bytes.onnx"])
def test_a_file_is_served(name: str, folder: Path, photographs: list[bytes]) -> None:
    """Each kind of file is served over HTTP, with the scores of the module, in batches of any size."""
    path = folder / name
    if not path.exists():
        FILES[name](path)
    with Engine(PipelineConfig(**settings_of(path))) as engine:
        results = answered(engine, photographs)
        assert engine.computed_as.way == WAYS[name]
        assert engine.weights_from == str(path)
    scores = torch.zeros(len(NAMES), CLASSES)
    for row, result in zip(scores, results, strict=True):
        for each in result["predictions"]:
            row[each["index"]] = each["score"]
    pixels = np.stack([np.asarray(photograph(each).resize((SIDE, SIDE))) for each in NAMES])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    normalised = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        torch.testing.assert_close(scores, NETWORK(normalised.contiguous()).softmax(1), atol=1e-4, rtol=0)


@pytest.mark.cuda
def test_a_network_with_a_fixed_batch_is_neither_traced_nor_recorded_on_cuda(folder: Path) -> None:
    path = folder / "fixed.pt"
    if not path.exists():
        FILES[path.name](path)
    served = load_model(PipelineConfig(**settings_of(path)))
    pixels = torch.randint(256, (3, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    alone = DeviceModule.of(served)
    with torch.inference_mode():
        expected = dict(zip(("scores", "classes"), alone(pixels), strict=True))
    with device_of("cuda"):
        device = CudaDevice(alone, (2, 8), InputSpec.of_pixels(SIDE))
        device.warm_up()
        rows = collect(device.launch([pixels])).rows
    assert device.computed_as.way == WAYS[path.name]
    torch.testing.assert_close(rows["scores"], expected["scores"], atol=1e-4, rtol=0)


def test_a_saved_network_keeps_its_number_format(tmp_path: Path) -> None:
    path = exported(tmp_path / "half.pt2", torch.export.Dim.DYNAMIC, dtype=torch.bfloat16)
    with Engine(PipelineConfig(**{**settings_of(path), "dtype": "auto"})) as engine:
        assert engine.dtype == "bfloat16"
    with pytest.raises(
        InvalidModel, match=r"^dtype: float16 cannot be chosen .* was saved, here bfloat16; leave dtype"
    ):
        load_model(PipelineConfig(**settings_of(path), dtype="float16"))


def test_several_outputs_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        served = load_model(PipelineConfig(**settings_of(onnx_file(tmp_path / "two.onnx", outputs=2))))
    assert "two.onnx has the outputs logits, features; logits is used" in caplog.text
    assert served.module(IMAGES).shape == (3, CLASSES)


def test_a_softmax_in_a_file_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Sequential(_Network(), nn.Softmax(1)).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(2, 3, SIDE, SIDE),)), tmp_path / "soft.pt2")
    with caplog.at_level(logging.WARNING):
        load_model(PipelineConfig(**settings_of(tmp_path / "soft.pt2")))
    assert "soft.pt2 gives numbers from 0 up that sum to 1 for each image, as behind a softmax" in caplog.text


def test_sizes_and_numbers_that_a_file_does_not_say_are_assumed(file: Path) -> None:
    """The size comes from the file, if it says one; all else is assumed, with a warning."""
    size: dict[str, Any] = {"crop_px": SIDE} if file.name == "script.pth" else {}
    served = load_model(PipelineConfig(device="cpu", model=str(file), **size))
    assert isinstance(served.transform, Preprocess)
    assert (served.transform.resize_px, served.transform.crop_px) == (36, 32)
    assert served.transform_is_assumed
    assert "ImageNet's usual values (own weights do not say theirs" in served.transform_from


# ---- other files ----------------------------------------------------------------------------------------------------


class Payload:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def with_payload(path: Path, mark: Path) -> None:
    """Replaces the example inputs of a program, which torch.export would unpickle, by code."""
    members = {}
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, pickle.dumps(Payload(mark)) if "sample_inputs" in name else content)


def test_nothing_is_unpickled_from_a_program(tmp_path: Path) -> None:
    path, mark = exported(tmp_path / "bad.pt2"), tmp_path / "mark"
    with_payload(path, mark)
    with pytest.raises(InvalidModel, match=r"bad.pt2 cannot be loaded as a program of torch.export: .*export it again"):
        load_model(PipelineConfig(**settings_of(path)))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("member", "what"),
    [
        ("x/data/constants/opaque_obj_0", r"an object that is not a tensor \(opaque_obj_0\), which is code"),
        ("x/data/constants/custom_obj_0", "an object that is not a tensor"),
        ("x/data/aotinductor/model/x.so", "a library compiled by AOTInductor, which is not loaded"),
    ],
)
def test_code_in_a_program_is_refused(tmp_path: Path, member: str, what: str) -> None:
    path = exported(tmp_path / "x.pt2")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, b"code")
    with pytest.raises(InvalidModel, match=f"^model: {path} holds {what}"):
        load_model(PipelineConfig(**settings_of(path)))


def written(path: Path, content: bytes | object) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pt", NETWORK.state_dict(), r"holds weights without a network; .* write weights: .*w.pt$"),
        (
            "m.pth",
            NETWORK,
            r"holds a pickled module \(.*Network\), which is code and is not run; save it by torch.export",
        ),
        ("x.pt2", b"no program", r"is neither a program of torch.export nor a TorchScript or .onnx file"),
        ("x.onnx", b"no network", r"cannot be loaded by ONNX Runtime: InvalidProtobuf"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, name: str, content: object, message: str) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(InvalidModel, match=rf"^model: {path} {message}"):
        load_model(PipelineConfig(**settings_of(path)))


def test_what_does_not_fit_a_file_is_refused(file: Path, tmp_path: Path) -> None:
    settings, labels = settings_of(file), tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    with pytest.raises(InvalidModel, match=r"labels\.txt has 2 lines; the model has 5 classes"):
        load_model(PipelineConfig(**settings, labels=str(labels)))
    with pytest.raises(InvalidModel, match=r"crop_px: 48 is not the size that|takes? images of 48 x 48 pixels"):
        load_model(PipelineConfig(**{**settings, "crop_px": 48, "resize_px": 48}))
    with pytest.raises(InvalidModel, match=r"^weights: own\.pth cannot be loaded into model: .* leave it out"):
        load_model(PipelineConfig(**settings, weights="own.pth"))


def test_a_missing_file_and_a_missing_package_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidModel, match=r"none\.pt2 cannot be read: FileNotFoundError"):
        load_model(PipelineConfig(**settings_of(tmp_path / "none.pt2")))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InvalidModel, match=r"needs ONNX Runtime, which is not installed; .* 'darkroom\[onnx\]'$"):
        load_model(PipelineConfig(**settings_of(onnx_file(tmp_path / "x.onnx"))))
