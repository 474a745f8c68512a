"""Tests of the times at which a request passed each stage."""

import pytest

from deployments.monitoring.timeline import STAGES, Timeline, server_timing
from pipeline.records import StageTimings

FIRST = StageTimings(queue_s=0.1, decode_s=0.2, wait_s=0.3, copy_s=0.1, model_s=0.4, ended_at=12.5)
LAST = StageTimings(queue_s=1.1, decode_s=0.1, wait_s=0.1, copy_s=0.1, model_s=0.7, ended_at=13.5)


def named(timeline: Timeline) -> dict[str, float]:
    return dict(zip(STAGES, timeline.longest(), strict=True))


def test_the_stages_of_one_image_make_up_the_whole_request() -> None:
    """The stages of one image add up to the whole request.

    Time between body and engine counts as waiting for a worker.
    """
    timeline = Timeline(10.0, 11.0, 13.0, [FIRST])
    stages = named(timeline)
    assert sum(stages.values()) == pytest.approx(timeline.total_s)
    assert (stages["read"], stages["queue"], stages["respond"]) == pytest.approx((1.0, 0.5, 0.5))


def test_of_many_images_the_longest_counts() -> None:
    """For many images each stage has the time of the slowest image, and answering begins after the last one."""
    stages = named(Timeline(10.0, 11.0, 14.0, [FIRST, LAST]))
    assert (stages["queue"], stages["decode"], stages["model"]) == pytest.approx((1.5, 0.2, 0.7))
    assert stages["respond"] == pytest.approx(0.5)


def test_a_request_of_which_nothing_reached_the_pipeline_has_no_stages_there() -> None:
    timeline = Timeline(10.0, 11.0, 13.0, [])
    assert named(timeline) == dict.fromkeys(STAGES, 0.0) | {"read": 1.0, "respond": 2.0}


def test_spans_of_many_images_reach_from_the_first_to_the_last() -> None:
    """The span of a stage reaches from the first image in it to the last, so spans of stages may overlap."""
    spans = {stage: (began_at, ended_at) for stage, began_at, ended_at in Timeline(10, 11, 14, [FIRST, LAST]).spans()}
    assert tuple(spans) == STAGES
    assert spans["read"] == (10, 11)
    assert spans["queue"] == pytest.approx((11, 12.5))
    assert spans["decode"] == pytest.approx((11.5, 12.6))
    assert spans["model"] == pytest.approx((12.1, 13.5))
    assert spans["respond"] == pytest.approx((13.5, 14))


def test_the_header_is_in_milliseconds() -> None:
    header = server_timing(Timeline(10.0, 11.0, 13.0, [FIRST]).longest(), 3.0)
    assert header.startswith("read;dur=1000.00, queue;dur=500.00, decode;dur=200.00")
    assert header.endswith("total;dur=3000.00")
