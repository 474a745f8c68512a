"""Tests of the configuration of an engine."""

import math
from importlib.util import find_spec
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.bounds import MAX_ENCODED_BYTES
from pipeline.config import PipelineConfig
from pipeline.live_limits import Limits

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"batch_sizes": []}, r"batch_sizes: \[\] must rise from 1 or more, e\.g\. \[1, 2, 4, 8\]"),
    ({"batch_sizes": [0, 1]}, r"batch_sizes: \[0, 1\] must rise from 1"),
    ({"batch_sizes": [4, 2]}, r"batch_sizes: \[4, 2\] must rise"),
    ({"batch_sizes": [2, 2]}, r"batch_sizes: \[2, 2\] must rise"),
    ({"formats": []}, r"formats: \[\] is empty; write at least one, e\.g\. \[JPEG\]"),
    ({"slots": 63}, r"slots: 63 do not hold two batches of 32.*write slots: 64 or more, or smaller batch_sizes"),
    ({"resize_px": 223, "crop_px": 224}, r"crop_px: 224 is larger than resize_px: 223; write it smaller"),
    ({"std": (math.nan, 0.2, 0.2)}, r"(?s)std\.0.*a finite number"),
    ({"mean": (0.5, math.inf, 0.5)}, r"(?s)mean\.1.*a finite number"),
    ({"std": (0.2, 0.0, 0.2)}, r"std: \[0\.2, 0\.0, 0\.2\] must be above 0: pixels are divided by every number"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_settings_that_do_not_fit_together_are_refused(settings: dict[str, Any], message: str) -> None:
    """Settings that contradict each other are refused with the key, the value, and what to write."""
    with pytest.raises(ValidationError, match=message):
        PipelineConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [{"batch_sizes": [1]}, {"slots": 64}, {"resize_px": 224, "crop_px": 224}, {"crop_px": 300}, {"slots": 8192}],
    ids=str,
)
def test_settings_at_the_edge_are_accepted(settings: dict[str, Any]) -> None:
    assert PipelineConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"decode_workers": 0}, "decode_workers"),
        ({"concurrent_batches": 0}, "concurrent_batches"),
        ({"slots": 8193}, "slots"),
        ({"max_top_k": 0}, "max_top_k"),
        ({"resize_px": 0}, "resize_px"),
        ({"crop_px": 0}, "crop_px"),
        ({"formats": ["TIFF"]}, "formats"),
        ({"background": "whit"}, "background"),
        ({"background": "#12345"}, "background"),
        ({"device": "gpu"}, "device"),
        ({"dtype": "int8"}, "dtype"),
        ({"decode": "slow"}, "decode"),
        ({"interpolation": "box"}, "interpolation"),
        ({"mean": (0.5,)}, "mean"),
        ({"batchsizes": [1]}, "batchsizes"),
    ],
    ids=str,
)
def test_single_settings_out_of_range_are_refused_by_name(settings: dict[str, Any], key: str) -> None:
    """A setting out of range is refused by its name, and so is an unknown key, which may be misspelt."""
    with pytest.raises(ValidationError, match=rf"(?m)^{key}\b"):
        PipelineConfig(**settings)


@pytest.mark.parametrize(("old", "new"), [("workers", "decode_workers"), ("threads", "concurrent_batches")])
def test_an_old_name_is_refused_with_the_new_one(old: str, new: str) -> None:
    """An old name is refused with the new one, together with all other errors."""
    with pytest.raises(ValidationError) as refused:
        PipelineConfig(**{old: 2, "slots": 0})  # type: ignore[arg-type]
    told = {error["loc"]: error["msg"] for error in refused.value.errors()}
    assert told[old,] == f"this setting is called {new} now; write {new}"
    assert "greater than or equal to 1" in told["slots",]


def test_a_background_is_a_colour_or_none() -> None:
    for background in ("white", "#102030", "rgb(1, 2, 3)", "drop"):
        assert PipelineConfig(background=background).background == background


def test_heif_without_its_decoder_fails_the_start_with_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.config.find_spec", lambda name: None if name == "pillow_heif" else find_spec(name))
    with pytest.raises(ValidationError, match=r"HEIF needs pillow-heif, .* pip install 'darkroom\[heif\]'"):
        PipelineConfig(formats=("JPEG", "HEIF"))


@pytest.mark.parametrize("key", ["max_batch_size", "max_image_bytes", "max_image_pixels"])
def test_limits_begin_at_one(key: str) -> None:
    assert Limits(**{key: 1})
    with pytest.raises(ValidationError, match=rf"(?m)^{key}\n"):
        Limits(**{key: 0})


def test_no_image_is_allowed_to_be_larger_than_its_room() -> None:
    assert Limits(max_image_bytes=MAX_ENCODED_BYTES)
    with pytest.raises(ValidationError, match=r"(?m)^max_image_bytes\n"):
        Limits(max_image_bytes=MAX_ENCODED_BYTES + 1)


def test_unknown_limits_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"(?m)^max_images\n"):
        Limits.model_validate({"max_images": 4})


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        PipelineConfig().slots = 512  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        Limits().max_batch_size = 1  # type: ignore[misc]


def test_a_batch_may_be_as_large_as_the_largest_size() -> None:
    config = PipelineConfig(batch_sizes=(1, 8))
    assert config.largest_batch == 8
    config.check_limits(Limits(max_batch_size=8))
    message = r"max_batch_size: 9 is above the largest of batch_sizes, 8; write max_batch_size: 8 or less, or add 9"
    with pytest.raises(ValueError, match=message):
        config.check_limits(Limits(max_batch_size=9))
