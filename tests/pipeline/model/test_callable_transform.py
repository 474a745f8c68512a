"""Tests of a transform that is any callable: run as it is in the workers, and its errors named by file and line."""

import inspect
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from harness.photographs import photograph
from pipeline import Engine, Geometry, Head, PipelineConfig, Prediction, Rejection, ServedModel
from pipeline.errors import InvalidModel, ModelFailedOnImage, TransformFailed
from pipeline.images.examination import examine
from pipeline.input_spec import InputSpec
from pipeline.model.callable_transform import CallableTransform, examples, tried
from pipeline.records import EncodedImage
from tests.support.device_kinds import KINDS, device_of
from tests.support.image_files import png, with_orientation

CONFIG = PipelineConfig(device="cpu", runtime="torch", batch_sizes=(1, 4), slots=8, decode_workers=1, spare_workers=0)
CAT = photograph("cat")
FORBIDDEN, OVERSIZED, POISONOUS = ((level, 0, 0) for level in (1, 2, 3))
"""Colours of the first pixel, at which the transform raises, or returns another shape, or the module raises."""

STEPS = transforms.Compose([transforms.Resize(24), transforms.CenterCrop(20), transforms.ToTensor()])


def marked(colour: tuple[int, int, int]) -> Image.Image:
    image = CAT.copy()
    image.putpixel((0, 0), colour)
    return image


def make_transform(factor: float) -> Callable[[Image.Image], Tensor]:
    """Return a transform of a kind that has to be pickled by value."""

    def checked(image: Image.Image) -> Tensor:
        first = image.getpixel((0, 0))
        if first == FORBIDDEN:
            raise ValueError("this picture is\nforbidden")
        made: Tensor = STEPS(image) * factor
        if first == POISONOUS:
            made[0, 0, 0] = 99
        return made.repeat(1, 1, 2) if first == OVERSIZED else made

    return lambda image: checked(image)


class _Network(nn.Module):
    """A network as in a tutorial: it flattens by `view`, and raises on some pictures."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.convolution, self.linear = nn.Conv2d(3, 6, 5), nn.Linear(6 * 16 * 16, 4)

    def forward(self, images: Tensor) -> Tensor:
        """Return [n, 4]."""
        if images[:, 0, 0, 0].max() > 50:
            raise RuntimeError("too bright")
        features = self.convolution(images).relu()
        logits: Tensor = self.linear(features.view(features.shape[0], -1))
        return logits


class Numbers(Head):
    """A head that returns what the module does."""

    def on_device(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return the outputs."""
        return {"numbers": outputs.float()}

    def results(self, rows: Mapping[str, Tensor], geometry: Sequence[Geometry]) -> list[Any]:
        """Return the numbers, and the picture's upright size."""
        each = zip(rows["numbers"].tolist(), geometry, strict=True)
        return [{"numbers": numbers, "size": where.upright} for numbers, where in each]


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Return an engine that serves this network with this transform."""
    with device_of(request.param) as kind:
        served = ServedModel(_Network(), make_transform(2.0), Numbers())
        with Engine(CONFIG.model_copy(update={"device": kind}), model=served) as engine:
            yield engine


def expected(image: Image.Image) -> list[float]:
    with torch.inference_mode():
        found: list[float] = _Network()(make_transform(2.0)(image)[None])[0].tolist()
    return found


def numbers(outcome: object) -> list[float]:
    assert isinstance(outcome, Prediction)
    found: list[float] = outcome.result["numbers"]
    return found


def test_a_callable_gets_the_upright_rgb_picture(engine: Engine) -> None:
    """A lambda with a closure runs in the workers, on the picture as Pillow decodes it: upright and RGB."""
    grey = CAT.convert("L")
    sent = [png(CAT), with_orientation(CAT, 6, "PNG"), png(grey), png(CAT.rotate(90, expand=True))]
    seen = [CAT, CAT, grey.convert("RGB"), CAT.rotate(90, expand=True)]
    outcomes = engine.infer(sent)
    for outcome, image in zip(outcomes, seen, strict=True):
        assert numbers(outcome) == pytest.approx(expected(image), abs=1e-4)
        assert isinstance(outcome, Prediction)
        assert outcome.result["size"] == image.size


def test_a_picture_on_which_users_code_raises_leaves_its_neighbours(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The picture at fault gets file and line, and the log the user's traceback; the others get their predictions."""
    with caplog.at_level(logging.WARNING):
        first, bad, large, poison, last = engine.infer(
            [png(CAT), png(marked(FORBIDDEN)), png(marked(OVERSIZED)), png(marked(POISONOUS)), png(CAT)]
        )
    assert numbers(first) == numbers(last) == pytest.approx(expected(CAT), abs=1e-4)
    line = inspect.getsourcelines(make_transform)[1] + 6
    assert isinstance(bad, Rejection)
    assert isinstance(bad.error, TransformFailed)
    place = f"(test_callable_transform.py:{line})"
    assert str(bad.error) == f"the transform fails on the image: ValueError: this picture is {place}"
    assert f'test_callable_transform.py", line {line}, in checked' in caplog.text
    assert "pipeline/decode" not in caplog.text
    assert isinstance(large, Rejection)
    wanted = "the transform returns float32 [3, 20, 40] for the image, and the model takes float32 [3, 20, 20]"
    assert str(large.error) == wanted
    assert isinstance(poison, Rejection)
    assert isinstance(poison.error, ModelFailedOnImage)
    assert "RuntimeError: too bright" in caplog.text


def test_the_time_of_a_callable_is_part_of_the_cost(engine: Engine) -> None:
    """The time of the transform is learned from the pictures that were served."""
    data = png(CAT)
    engine.infer([data] * 4)
    (image,) = engine.examine([EncodedImage(data)])
    without = examine(EncodedImage(data), engine.limits, engine.transform)
    assert isinstance(image, EncodedImage)
    assert isinstance(without, EncodedImage)
    assert without.cost_s is not None
    assert image.cost_s is not None
    assert image.cost_s > without.cost_s + 1e-4


# ---- at the start ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "spec"),
    [
        (lambda image: torch.tensor(image.convert("L").resize((4, 2)).tobytes()[0]).view(1), "int64 [1]"),
        (lambda image: np.asarray(image.resize((4, 2))).transpose(2, 0, 1), "uint8 [3, 2, 4]"),
        (lambda image: np.asarray(image.resize((4, 2)))[::-1] / 255, "float64 [2, 4, 3]"),
        (lambda image: STEPS(image).to(torch.bfloat16).requires_grad_(), "bfloat16 [3, 20, 20]"),
        (lambda image: {80: lambda _: 1 / 0}.get(image.width, STEPS)(image), "float32 [3, 20, 20]"),
    ],
    ids=["one number", "array", "flipped array", "bfloat16", "only large pictures"],
)
def test_the_shape_is_found_by_running_the_transform(function: Callable[[Image.Image], Any], spec: str) -> None:
    found = tried(function)
    assert isinstance(found, CallableTransform)
    assert str(found.input_spec) == spec
    made = examples(found, 2)
    assert InputSpec.of(made) == found.input_spec
    assert not made.requires_grad


class Locked:
    """A transform that cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, image: Image.Image) -> Tensor:
        """Return a tensor."""
        with self.lock:
            made: Tensor = STEPS(image)
            return made


def raising(image: Image.Image) -> Tensor:
    raise KeyError(image.mode)


def made_for(pid: int) -> Callable[[Image.Image], Tensor]:
    """Return a transform that works in one process alone."""

    def only_there(image: Image.Image) -> Tensor:
        if os.getpid() != pid:
            raise OSError("not in a worker")
        made: Tensor = STEPS(image)
        return made

    return only_there


HERE = r"\(in .*test_callable_transform\.py:\d+\)"


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (
            lambda image: image,
            f"^transform: <lambda> {HERE} fails on .* 320 x 240 pixels: TypeError: the transform must",
        ),
        (raising, f"^transform: raising {HERE} fails on a test picture of 320 x 240 pixels: KeyError: 'RGB' {HERE}$"),
        (
            transforms.Compose([transforms.Resize(24), transforms.ToTensor()]),
            r"returns float32 \[3, 24, 32\] for a picture of 320 x 240 pixels and float32 \[3, 32, 24\] for one of ",
        ),
        (lambda _: torch.zeros(()), r"returns float32 \[\], which holds no picture"),
        (Locked(), f"^transform: Locked {HERE} cannot be sent to the decoder processes: TypeError: cannot pickle"),
        (
            made_for(os.getpid()),
            r"^transform: it works in the replica and fails in a decoder process: .*OSError: not in a worker",
        ),
    ],
    ids=["no tensor", "raises", "shapes", "empty", "lock", "worker"],
)
def test_a_transform_that_cannot_be_served_ends_the_start(
    function: Callable[[Image.Image], Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The start ends with one sentence, and leaves nothing running."""
    engine = Engine(CONFIG, model=ServedModel(nn.Flatten(), function, Numbers()))
    with pytest.raises(InvalidModel, match=says) as raised:
        engine.start()
    assert "\n" not in str(raised.value)
    if function is raising:
        assert "in raising\n    raise KeyError(image.mode)\nKeyError: 'RGB'" in caplog.text


def test_a_module_that_cannot_compute_ends_the_start(caplog: pytest.LogCaptureFixture) -> None:
    """The user's own line is named, and his traceback is in the log."""

    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images @ torch.zeros(7)

    engine = Engine(CONFIG, model=ServedModel(Broken(), STEPS.__call__, Numbers()))
    line = inspect.getsourcelines(Broken.forward)[1] + 1
    with pytest.raises(
        InvalidModel,
        match=rf"^model: the module fails on a batch of 2 test images, float32 \[3, 20, 20\] each: "
        rf"RuntimeError: .* \(in .*test_callable_transform.py:{line}\)$",
    ):
        engine.start()
    assert "return images @ torch.zeros(7)" in caplog.text


def test_a_random_transform_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    tried(transforms.Compose([transforms.RandomResizedCrop(16), transforms.ToTensor()]))
    assert "returns another tensor each time for the same picture" in caplog.text
