"""Tests of models of every kind behind Ray Serve: each answers over HTTP as its engine does in this process.

tests/pipeline/model compares the engines with the models alone.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import pytest
import timm
import torch

from harness.local_service import Document, shipped_config
from harness.photographs import photograph
from harness.seeded_models import seeded_file
from pipeline import Engine, PipelineConfig, Prediction
from tests.support.image_files import png
from tests.support.network_files import FILES, settings_of
from tests.support.running_service import Service, running

pytestmark = pytest.mark.slow

CLASSES: Final = 4
PHOTO: Final = png(photograph("cat").resize((451, 300)))
SHARED: Final = {"device": "cpu", "runtime": "torch", "decode": "exact", "decode_workers": 1, "spare_workers": 0}
FILE_KINDS: Final = ("any.pt2", "script.pth", "any.onnx", "bytes.onnx")


def _pipelines(folder: Path) -> dict[str, Document]:
    """Write a model of each kind into a folder; return the settings that serve it, by a name that a path may have."""
    names = folder / "labels.txt"
    names.write_text("background\ncat\ndog\nbird\n")
    seeded = {"labels": str(names), "batch_sizes": [1, 2]}
    torch.save(timm.create_model("test_resnet", pretrained=False, num_classes=CLASSES).state_dict(), folder / "own.pth")
    detector, segmenter = "fasterrcnn_mobilenet_v3_large_320_fpn", "lraspp_mobilenet_v3_large"
    own: dict[str, Document] = {
        "timm": {"model": "timm:test_resnet", "weights": str(folder / "own.pth"), **seeded},
        "detector": {"model": detector, "weights": str(seeded_file(folder, detector, CLASSES)), **seeded},
        "segmenter": {
            "model": segmenter,
            "weights": str(seeded_file(folder, segmenter, CLASSES)),
            "resize_px": 160,
            **seeded,
        },
        "multilabel": {"model": "mobilenet_v2", "head": "multilabel"},
        "embed": {"model": "mobilenet_v2", "head": "embed"},
    }
    for name in FILE_KINDS:
        settings = settings_of(FILES[name](folder / name))
        own[name.replace(".", "-")] = {
            key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()
        }
    return {name: SHARED | settings for name, settings in own.items()}


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Document]:
    return _pipelines(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, pipelines: dict[str, Document]) -> Iterator[Service]:
    """One service with an application for each kind."""
    config = shipped_config()
    (shipped,) = config["applications"]
    config["applications"] = [
        {
            **shipped,
            "name": name,
            "route_prefix": f"/{name}",
            "args": {"num_cpus": 0, "pipeline": pipeline},
            "deployments": [
                {
                    "name": "Model",
                    "user_config": {"max_batch_size": max(pipeline.get("batch_sizes", [32]))},
                    "autoscaling_config": {"min_replicas": 1, "max_replicas": 1},
                }
            ],
        }
        for name, pipeline in pipelines.items()
    ]
    with running(tmp_path_factory.mktemp("service"), config) as service:
        yield service


def _rounded(value: Any) -> Any:
    """Return a document with its numbers to two digits: floats differ a little between two processes."""
    text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.loads(text, parse_float=lambda number: round(float(number), 2))


def test_every_kind_answers_over_http(
    service: Service, pipelines: dict[str, Document], subtests: pytest.Subtests
) -> None:
    """Each model's answer is that of an engine in this process; a broken image beside it has its own error."""
    for name, pipeline in pipelines.items():
        with subtests.test(name):
            with Engine(PipelineConfig.model_validate(pipeline)) as engine:
                (outcome,) = engine.infer([PHOTO])
                usual = {parameter: each.default for parameter, each in engine.head.parameters.items()}
            assert isinstance(outcome, Prediction)
            parts = [("image", ("picture", data)) for data in (PHOTO, b"broken")]
            answer = httpx.post(f"{service.origin}/{name}/predict", files=parts, timeout=60, trust_env=False)
            assert answer.status_code == 200, answer.text
            found, broken = answer.json()["results"]
            assert broken["error"]["title"] == "Unsupported format"
            expected = _rounded(outcome.as_json(**usual))
            assert expected.items() <= _rounded(found).items()
