"""Tests of the measured images a second, by real workers."""

import pytest

from harness.photographs import jpeg, photograph
from harness.throughput import throughput
from pipeline.config import PipelineConfig
from pipeline.engine import Engine
from tuning.null_device import open_null_device

CAT = jpeg(photograph("cat"))
CONFIG = PipelineConfig(device="cpu", decode_workers=1, concurrent_batches=1)


def test_images_count_and_not_the_requests_that_they_come_in() -> None:
    """Images count when they leave the device, also those of unfinished requests."""
    with Engine(CONFIG, opener=open_null_device) as engine:
        before = engine.stats
        done = throughput(engine, [CAT], 0.2, together=64, requests=8)
        after = engine.stats
    assert 0 < done.images < after.images - before.images  # the other images came before and after
    assert len(done.timings) % 64 == 0
    assert 0 < done.decode_s < done.seconds
    assert done.seconds >= 0.2
    assert done.per_s == done.images / done.seconds


def test_an_image_that_is_not_predicted_is_no_throughput() -> None:
    with Engine(CONFIG, opener=open_null_device) as engine, pytest.raises(RuntimeError, match="was not predicted"):
        throughput(engine, [CAT, b"no image"], 0.1, together=2, requests=1)
