"""Tests of loading a classifier: name and weights -> one module, its labels and its preprocessing."""

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from harness.photographs import photograph
from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model.classify import Classify
from pipeline.model.device_module import DTYPES, DeviceModule
from pipeline.model.intake import Normalise
from pipeline.model.served import Preprocess
from pipeline.model.source import load_model
from pipeline.records import Transform
from tests.pipeline.images.test_decode import by_torchvision
from tests.support.answers import CAT_LABELS

MODEL = "squeezenet1_1"  # the smallest model without batch norm
PIXELS = torch.from_numpy(by_torchvision(photograph("cat")).copy())[None]


def load(**settings: Any) -> Any:
    """Return the loaded model of a configuration for the CPU."""
    return load_model(PipelineConfig(device="cpu", **settings))


# ---- by name --------------------------------------------------------------------------------------------------------


def test_a_model_by_name_is_torchvisions() -> None:
    """A model by name has torchvision's labels, preprocessing and scores; torchvision alone computes the reference."""
    weights = models.MobileNet_V2_Weights.IMAGENET1K_V1
    loaded = load(max_top_k=1000)
    assert loaded.head.labels == tuple(weights.meta["categories"])
    assert loaded.transform == Preprocess(256, 224)
    assert loaded.transform.in_workers(PipelineConfig()) == Transform(
        256, 224, "bilinear", "fast", ("JPEG", "PNG", "WEBP")
    )
    with torch.inference_mode():
        scores, classes = DeviceModule.of(loaded)(PIXELS)
        batch = weights.transforms()(photograph("cat"))[None]
        expected = models.mobilenet_v2(weights=weights).eval()(batch).softmax(1)
    torch.testing.assert_close(scores, expected.gather(1, classes), atol=1e-4, rtol=0)
    assert scores[0].tolist() == sorted(scores[0].tolist(), reverse=True)
    assert loaded.head.labels[classes[0, 0]] in CAT_LABELS


def test_a_model_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidModel, match=r"^model: resnet17 is not a model of torchvision; did you mean resnet"):
        load(model="resnet17")


def test_a_model_that_does_something_else_is_refused() -> None:
    with pytest.raises(InvalidModel, match=r"^model: r3d_18 is a video model; those of torchvision's that are served"):
        load(model="r3d_18")


def test_weights_that_do_not_exist_are_refused() -> None:
    """Unknown weights are refused with a list of the known ones."""
    with pytest.raises(
        InvalidModel, match=r"weights: mobilenet_v2 has no weights V9; write IMAGENET1K_V1 or IMAGENET1K_V2 or"
    ):
        load(weights="V9")


def test_weights_of_another_model_by_name_are_refused() -> None:
    with pytest.raises(InvalidModel, match=r"^weights: vit_h_14 has no weights IMAGENET1K_V1; write IMAGENET1K_SWAG"):
        load(model="vit_h_14")


def test_weights_that_cannot_be_fetched_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that cannot be downloaded are refused with the folder where the file can be put by hand."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        proxy = "http://{}:{}".format(*closed.getsockname())
    monkeypatch.setenv("https_proxy", proxy)  # a closed port
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        InvalidModel, match=rf"IMAGENET1K_V1 of {MODEL} are not in {tmp_path}/hub/checkpoints and cannot"
    ):
        load(model=MODEL)


@pytest.mark.parametrize("content", [b"", b"not found", b"PK\3\4 torn", b"\x80\2]q\0."], ids=repr)
def test_damaged_weights_are_refused(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file in the checkpoint folder, as a broken download leaves it, is refused."""
    name = models.MobileNet_V2_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / name).write_bytes(content)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InvalidModel, match=r"^weights: IMAGENET1K_V1 of mobilenet_v2 are not in"):
        load()


# ---- the module -----------------------------------------------------------------------------------------------------


def mean_of_channels(
    top_k: int, mean: tuple[float, ...] = (0, 0, 0), std: tuple[float, ...] = (1, 1, 1)
) -> DeviceModule:
    """Return a model whose three logits are the means of the three normalised channels."""
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return DeviceModule(pool, Classify((), top_k), Normalise(tuple(mean), tuple(std)), torch.float32)


def test_pixels_are_normalised_as_torchvision_does() -> None:
    """Pixels are normalised as in torchvision: (x / 255 - mean) / std, channel by channel."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    scores, classes = mean_of_channels(3, mean, std)(PIXELS)
    means = PIXELS.double().mean((0, 1, 2)) / 255
    expected = ((means - torch.tensor(mean)) / torch.tensor(std)).softmax(0)
    torch.testing.assert_close(scores[0].double(), expected[classes[0]], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("top_k", "kept"), [(1, 1), (2, 2), (3, 3), (100, 3)])
def test_no_more_classes_are_kept_than_there_are(top_k: int, kept: int) -> None:
    """At most all classes are kept, and scores are shares of all classes."""
    scores, classes = mean_of_channels(top_k)(PIXELS.expand(2, -1, -1, -1))
    everything, _ = mean_of_channels(3)(PIXELS)
    assert scores.shape == classes.shape == (2, kept)
    assert scores[1].equal(everything[0, :kept])


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_are_float32_whatever_the_model_computes_in(dtype: str) -> None:
    """Scores are float32; in half precision the first class is the same and its score is close."""
    with torch.inference_mode():
        scores, classes = DeviceModule.of(load(), DTYPES[dtype])(PIXELS)
        expected, first = DeviceModule.of(load())(PIXELS)
    assert scores.dtype == torch.float32
    assert classes[0, 0] == first[0, 0]
    assert abs(scores[0, 0] - expected[0, 0]) < 0.05
