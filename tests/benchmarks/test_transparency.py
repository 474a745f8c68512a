"""Tests of the comparison of backgrounds: white is the reference, and opaque photographs do not change."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks import transparency
from benchmarks.transparency import BACKGROUNDS, HEADER, KINDS, compare, row
from pipeline.config import DROP_TRANSPARENCY


def brightness(pixels: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """Scores two classes: dark and bright."""
    bright = torch.tensor([float(image.mean()) / 255 for image in pixels])
    return torch.stack([1 - bright, bright], dim=1)


def test_each_background_is_held_against_white(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transparency, "NAMES", ("cat",))
    for kind in KINDS:
        results = {result.background: result for result in compare(kind, brightness)}
        assert tuple(results) == BACKGROUNDS
        assert results["white"].change < 0.002
        assert results["white"].same == results["white"].images
        if kind.endswith("opaque"):
            assert all(result.change == 0 for result in results.values())
        if kind == "line drawings":
            assert results[DROP_TRANSPARENCY].same == 0
        assert all(len(row(result)) == len(HEADER) for result in results.values())
