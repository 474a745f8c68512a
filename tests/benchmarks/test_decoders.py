"""Tests of `make decoders`: every decoder makes nearly the same pixels of a photograph."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from benchmarks import decoders
from benchmarks.decoders import OURS, REFERENCE, WAYS, DecoderResult, Pixels, Way, compare
from benchmarks.work import SMALL
from harness.repository import PEERS

sys.path.append(str(PEERS / "decoders"))

NEEDS = {"TorchCodec": "torchcodec"}


def _ways() -> list[object]:
    """List the decoders as parameters; those whose packages `make decoders` has not fetched are skipped."""
    missing = [name for name, module in NEEDS.items() if not find_spec(module)]
    skip = pytest.mark.skip(reason="make decoders fetches it")
    return [pytest.param(way, id=name, marks=[skip] * name.startswith(tuple(missing))) for name, way in WAYS.items()]


@pytest.mark.parametrize("way", _ways())
def test_every_way_shows_the_same_picture(way: Way) -> None:
    """The pixels of each decoder differ from the reference by far less than those of another photograph."""
    data, other = SMALL.images[:2]
    expected, found = WAYS[REFERENCE](data).astype(int), way(data)
    assert found.dtype == np.uint8
    assert found.shape == (224, 224, 3)
    assert abs(found - expected).mean() < 6
    assert abs(WAYS[REFERENCE](other) - expected).mean() > 20


def test_exact_is_exact() -> None:
    data = SMALL.images[0]
    assert np.array_equal(WAYS["Darkroom, decode: exact"](data), WAYS[REFERENCE](data))


def test_a_way_is_held_against_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that turns pictures upside down changes the first class.

    Its time is reported as a ratio to Darkroom's.
    """
    upside_down = {"upside down": lambda data: WAYS[REFERENCE](data)[::-1].copy()}
    monkeypatch.setattr(decoders, "WAYS", {name: WAYS[name] for name in (REFERENCE, OURS)} | upside_down)
    monkeypatch.setattr(decoders, "MEASURED_FOR_S", 0.01)

    def score(pixels: Sequence[Pixels]) -> torch.Tensor:
        """Scores two classes: the brightness of the upper half, and that of the lower half."""
        halves = [[image[:112].mean(), image[112:].mean()] for image in pixels]
        return torch.tensor(halves) / 255

    reference, ours, turned = compare(SMALL, score)
    assert (reference.levels, reference.score, reference.same) == (0.0, 0.0, reference.images)
    assert ours.times_ours == 1.0
    assert ours.same == ours.images
    assert turned.same == 0
    assert turned.levels > 20
    assert turned.score > 0.01


def test_a_row_says_how_many_have_the_same_class() -> None:
    result = DecoderResult(
        "500 x 375", "a way", ms=2.345, times_ours=1.5, levels=0.126, score=0.0123, same=23, images=24
    )
    assert decoders.row(result) == ["500 x 375", "a way", "2.35", "1.50", "0.13", "0.012", "23 of 24"]
