"""Tests of two resize kernels: torch's for uint8, and Pillow's where torch's does not apply."""

from dataclasses import replace

import numpy as np
import pytest

from harness.photographs import photograph
from pipeline.images import resize
from pipeline.images.geometry import resized
from pipeline.images.resize import CropPlan, by_pillow, resize_exact, resize_fast
from pipeline.records import Transform

TRANSFORM = Transform(256, 224, "bilinear", "fast", ("JPEG",))


def _pixels(width: int, height: int) -> resize.Pixels:
    return np.array(photograph("temple").resize((width, height)))


def _plan(width: int, height: int) -> CropPlan:
    target = resized(width, height, 256)
    return CropPlan((width, height), target, round((target[0] - 224) / 2), round((target[1] - 224) / 2))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (256, 256), (90, 70), (1900, 300)], ids=str)
def test_it_is_off_by_little(size: tuple[int, int], interpolation: str) -> None:
    """The result is close to Pillow's resize of the whole image, for larger, smaller and wide images."""
    transform = replace(TRANSFORM, interpolation=interpolation)
    expected = np.asarray(resize_exact(photograph("temple").resize(size), transform)).astype(int)
    found = resize_fast(_pixels(*size), _plan(*size), transform)
    assert found.shape == (224, 224, 3)
    assert abs(found - expected).mean() < (1.0 if interpolation == "nearest" else 0.1)
    if interpolation in ("bilinear", "bicubic"):
        assert abs(found - expected).max() <= 2


def test_what_reduction_adds_is_left_out() -> None:
    """Pixels that reduced decoding adds are left out, and both kernels see the picture in the same place."""
    pixels, plan = _pixels(501, 376), replace(_plan(501, 376), covered=(500.5, 375.25))
    found, expected = resize_fast(pixels, plan, TRANSFORM), by_pillow(pixels, plan, TRANSFORM)
    assert abs(found.astype(int) - expected).max() <= 1
    whole = resize_fast(pixels, _plan(501, 376), TRANSFORM)
    assert abs(found.astype(int) - whole).mean() > 0.1


def test_of_a_thin_image_the_crop_alone_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(resize, "interpolate")
    assert resize_fast(_pixels(3, 4000), _plan(3, 4000), TRANSFORM).shape == (224, 224, 3)


def test_where_torch_has_no_memory_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(resize, "interpolate", fail)
    with pytest.raises(MemoryError, match="can't allocate memory"):
        resize_fast(_pixels(500, 375), _plan(500, 375), TRANSFORM)
