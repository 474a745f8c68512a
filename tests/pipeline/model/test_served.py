"""Tests of a user's own module with its own head, through the whole engine."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pipeline
from harness.photographs import jpeg, photograph
from pipeline import Classify, Engine, Geometry, Head, PipelineConfig, Prediction, Preprocess, Rejection, ServedModel
from pipeline.errors import InvalidModel, NonFiniteScores
from pipeline.images.geometry import resized
from pipeline.records import Outcome, Transform
from tests.support.device_kinds import KINDS, device_of
from tests.support.image_files import png, with_orientation

SIDE_PX = 32
CAT = photograph("cat")


class _Network(nn.Module):
    """A module with two outputs in a dict: the channels' means, and the brightest pixel of each image."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Take float [n, 3, side, side]."""
        return {"means": images.mean((2, 3)), "brightest": images.amax((1, 2, 3))}


class Colour(dict[str, Any]):
    """A result with more than its JSON has."""

    def as_json(self) -> dict[str, Any]:
        """Return the result without the geometry, which is no JSON."""
        return {name: value for name, value in self.items() if name != "geometry"}


class Colours(Head):
    """A head that returns the mean colour of an image, its brightest pixel, and its crop."""

    def on_device(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scale all outputs to 0..255."""
        return {name: 255 * values.float() for name, values in outputs.items()}

    def results(self, rows: Mapping[str, Tensor], geometry: Sequence[Geometry]) -> list[dict[str, Any]]:
        """Return one mapping for each image."""
        each = zip(rows["means"].tolist(), rows["brightest"].tolist(), geometry, strict=True)
        return [Colour(mean=mean, brightest=brightest, geometry=where) for mean, brightest, where in each]


def colours(module: nn.Module) -> ServedModel:
    as_it_is = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return ServedModel(module, Preprocess(SIDE_PX, SIDE_PX, "bilinear", *as_it_is), Colours())


CONFIG = PipelineConfig(
    device="cpu", runtime="torch", batch_sizes=(1, 4), slots=8, decode_workers=1, spare_workers=0, decode="exact"
)


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Return an engine that serves this model."""
    with (
        device_of(request.param) as kind,
        Engine(CONFIG.model_copy(update={"device": kind}), model=colours(_Network())) as engine,
    ):
        yield engine


def result(outcome: Outcome) -> dict[str, Any]:
    assert isinstance(outcome, Prediction)
    found: dict[str, Any] = outcome.result
    return found


def test_each_image_gets_its_own_result(engine: Engine) -> None:
    """Each image gets its own result, in any batch and order, and a damaged one is rejected alone."""
    grey = [png(CAT.convert("L").point(lambda _, level=level: level)) for level in range(0, 250, 10)]
    outcomes = engine.infer([*grey, b"no image", *reversed(grey)])
    rejected = outcomes.pop(len(grey))
    assert isinstance(rejected, Rejection)
    levels = [*range(0, 250, 10), *reversed(range(0, 250, 10))]
    assert [result(outcome)["mean"] for outcome in outcomes] == [
        pytest.approx([level] * 3, abs=0.5) for level in levels
    ]
    assert [result(outcome)["brightest"] for outcome in outcomes] == pytest.approx(levels, abs=0.5)


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_head_learns_how_an_image_was_sent(engine: Engine, orientation: int) -> None:
    """The head gets the size before EXIF rotation, and the mapping from the model's input back to the image."""
    (outcome,) = engine.infer([with_orientation(CAT, orientation)])
    geometry = result(outcome)["geometry"]
    sent = CAT.size[::-1] if orientation == 6 else CAT.size  # upright, the image is the same
    assert (geometry.width, geometry.height, geometry.orientation) == (*sent, orientation)
    across, down = resized(*CAT.size, SIDE_PX)
    assert geometry.upright == CAT.size
    assert geometry.scale == (across / CAT.width, down / CAT.height)
    assert geometry.offset == (round((across - SIDE_PX) / 2), round((down - SIDE_PX) / 2))


def test_the_engine_describes_a_given_model(engine: Engine) -> None:
    assert (engine.weights_from, engine.transform_from) == ("the caller", "the caller")
    assert isinstance(engine.transform, Transform)
    assert (engine.transform.resize_px, engine.transform.crop_px, engine.transform.decode) == (
        SIDE_PX,
        SIDE_PX,
        "exact",
    )
    assert [*engine.labels] == []


class Undefined(_Network):
    """A module whose output is NaN for an image with a black channel."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the same outputs, with NaN for a mean of 0."""
        outputs = super().forward(images)
        return {**outputs, "means": outputs["means"] / outputs["means"].sign().abs()}


def test_a_given_model_without_numbers_is_not_started() -> None:
    """A model that gives NaN for a warm-up image, one of which is black, does not start."""
    engine = Engine(CONFIG, model=colours(Undefined()))
    with pytest.raises(InvalidModel, match=r"of the given model give scores that are not finite.*1 of \d test images"):
        engine.start()


def test_an_image_without_numbers_leaves_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN in any of the head's tensors rejects that image alone."""
    monkeypatch.setattr("pipeline.engine.warm_up_images", lambda _: [])
    black = png(CAT.point(lambda _: 0))
    with Engine(CONFIG, model=colours(Undefined())) as engine:
        good, bad, other = engine.infer([jpeg(CAT), black, jpeg(CAT)])
    assert isinstance(bad, Rejection)
    assert isinstance(bad.error, NonFiniteScores)
    assert result(good)["mean"] == result(other)["mean"]


def test_what_a_user_imports_is_there() -> None:
    """Every public name can be imported from `pipeline`, which loads it then."""
    assert all(getattr(pipeline, name).__name__ == name for name in pipeline.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Engin'"):
        getattr(pipeline, "Engin")  # noqa: B009


def test_a_given_module_computes_in_the_format_that_is_configured() -> None:
    linear = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))

    class Whole(Head):
        def on_device(self, outputs: Tensor) -> dict[str, Tensor]:
            return {"outputs": outputs}

        def results(self, rows: Mapping[str, Tensor], geometry: Sequence[Geometry]) -> list[dict[str, Any]]:  # noqa: ARG002
            return [{"outputs": row} for row in rows["outputs"].tolist()]

    with Engine(
        CONFIG.model_copy(update={"dtype": "bfloat16"}), model=ServedModel(linear, Preprocess(32, 32), Whole())
    ) as one:
        (outcome,) = one.infer([jpeg(CAT)])
    assert one.dtype == "bfloat16"
    assert len(result(outcome)["outputs"]) == 2
    assert {parameter.dtype for parameter in linear.parameters()} == {torch.bfloat16}


class Clumsy(Colours):
    """A head that fails on dark images, and may return too few results or no JSON."""

    def __init__(self, fault: str) -> None:
        self._fault = fault

    def results(self, rows: Mapping[str, Tensor], geometry: Sequence[Geometry]) -> list[dict[str, Any]]:
        """Fail in the way asked for."""
        if self._fault == "dark" and (rows["brightest"] < 40).any():
            raise KeyError("dark")
        found = super().results(rows, geometry)
        return found[:-1] if self._fault == "few" else [{"tensor": rows["means"]} for _ in found]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (
            "few",
            r"the head Clumsy fails on a test image: Clumsy.results \(.*test_served.py:\d+\) returns \d results? for",
        ),
        ("dark", r"the head Clumsy fails on a test image: KeyError: 'dark' \(in .*test_served.py:\d+\)"),
        ("no JSON", r"a result of Clumsy.results \(.*test_served.py:\d+\) cannot be written as JSON: .*Tensor"),
    ],
)
def test_a_head_with_a_fault_is_told_at_the_start(fault: str, says: str) -> None:
    """A head that fails on a test image, returns too few results or no JSON does not start, and its line is named."""
    served = colours(_Network())
    engine = Engine(CONFIG, model=ServedModel(served.module, served.transform, Clumsy(fault)))
    with pytest.raises(InvalidModel, match=says):
        engine.start()


def test_a_head_that_does_not_fit_is_told_at_the_start() -> None:
    served = colours(_Network())
    engine = Engine(CONFIG, model=ServedModel(served.module, served.transform, Classify(["red", "green", "blue"])))
    says = r"the head Classify does not fit the model: .* returns a dict of 2: {'means': float32 \[2, 3\], 'brightest'"
    with pytest.raises(InvalidModel, match=says):
        engine.start()
