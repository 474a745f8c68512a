"""Tests of measuring the cost of decoding, by real workers."""

import pytest

from harness.photographs import jpeg, photograph
from pipeline.config import PipelineConfig
from pipeline.live_limits import Limits
from tuning.decoding import Decoders

CAT = jpeg(photograph("cat"))
CONFIG = PipelineConfig(device="cpu")


def test_images_that_cannot_be_decoded_are_told_apart() -> None:
    """Images that cannot be decoded, or are above the limits, are listed; the others keep their order."""
    images = {"a": CAT, "empty": b"", "text": b"no image", "b": jpeg(photograph("rocket"))}
    found = Decoders(CONFIG, Limits()).readable(images)
    assert found.images == (images["a"], images["b"])
    assert [fault.partition(":")[0] for fault in found.faults] == ["empty", "text"]
    small = Decoders(CONFIG, Limits(max_image_pixels=1000)).readable({"a": CAT})
    assert small.images == ()
    assert "1000" in small.faults[0]


def test_the_cost_is_that_of_the_images() -> None:
    """The cost is that of the given images: six megapixels take longer. One run gives all figures."""
    costs = []
    for image in (CAT, jpeg(photograph("cat").resize((3000, 2000)))):
        decoders = Decoders(CONFIG, Limits())
        decoders.measure(1, [image], 0.1)
        costs.append(decoders.cost)
    small, large = costs
    assert large.alone_s > small.alone_s
    for cost in costs:
        assert sorted(cost.rates) == [1]
        assert cost.worker_bytes > 1 << 20


def test_handing_images_over_one_by_one_costs_something() -> None:
    """The cost of handing over an image is measured apart from its decoding."""
    decoders = Decoders(CONFIG, Limits())
    decoders.measure_one_by_one([CAT], 0.5)
    assert 0 < decoders.cost.handing_s < 0.1


def test_of_several_runs_the_median_counts() -> None:
    """The median of several runs counts, so one disturbed run does not."""
    decoders = Decoders(CONFIG, Limits())
    decoders.cost.runs = {1: [100.0, 10.0, 101.0], 2: [150.0]}
    assert decoders.cost.rates == {1: 100.0, 2: 150.0}
    assert decoders.cost.rate(2) == 150.0
    assert decoders.cost.rate(3) == pytest.approx(decoders.cost.scaling.rate(3))
