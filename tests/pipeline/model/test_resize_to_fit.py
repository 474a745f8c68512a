"""Tests of the preparation that keeps all of each image."""

import pytest

from pipeline.assembly import Assembly
from pipeline.config import PipelineConfig
from pipeline.model.device_kind import open_device
from pipeline.model.resize_to_fit import Fit


def test_batches_are_measured_with_the_input_of_an_ordinary_photograph() -> None:
    assert Fit(800, 1333).usual_size == (1066, 800)
    assert Fit(300, 320, (320, 300)).usual_size == (320, 300)


@pytest.mark.parametrize(("decode", "count"), [("fast", 167), ("exact", 64)])
def test_there_are_fewer_slots_where_inputs_are_large(decode: str, count: int) -> None:
    """Slots take 512 MiB at most, and more only if two of the largest batches need it."""
    config = PipelineConfig.model_validate({"decode": decode})
    assert Assembly(config, None, open_device)._slots(Fit(800, 1333).input_spec(config)).count == count
