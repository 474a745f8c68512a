"""Tests of the report on replicas that wait for resources, with Serve's wording taken from the installed Ray."""

import inspect
from collections.abc import Mapping
from typing import Any

import pytest
from ray.serve._private import deployment_state

from deployments.local.serve_api import ServeApiError
from deployments.local.waiting_replicas import WaitingReplicas

WARNING = (
    "(ServeController pid=1) WARNING 2026-01-31 12:00:00,000 controller 1 -- Deployment 'Model' in application "
    "'birds' has 3 replicas that have taken more than 30s to be scheduled. This may be due to waiting for the "
    "cluster to auto-scale or for a runtime environment to be installed. Resources required for each replica: "
    "{'CPU': 2.0, 'GPU': 0.5}, total resources available: {'CPU': 1.0}. Use `ray status` for more details."
)


def _applications(states: list[str], **config: Any) -> Mapping[str, Any]:
    replicas = [{"state": state} for state in states]
    return {"birds": {"deployments": {"Model": {"deployment_config": config, "replicas": replicas}}}}


def test_serve_still_words_it_like_that() -> None:
    """The installed Ray still uses the wording that is recognised. If it changes, this test fails."""
    source = inspect.getsource(deployment_state)
    for part in (
        "have taken more than {SLOW_STARTUP_WARNING_S}s to be scheduled. ",
        "Resources required for each replica: {required}, ",
        "total resources available: {available}. ",
    ):
        assert part in source


@pytest.mark.parametrize(
    ("states", "config", "said"),
    [
        (["RUNNING", "STARTING"], {"autoscaling_config": {"min_replicas": 1, "max_replicas": 4}}, None),
        (["RUNNING", "UPDATING"], {"num_replicas": 2}, None),
        (["STARTING"], {"autoscaling_config": {"min_replicas": 1, "max_replicas": 4}},
         "no replica of application birds"),
        (["STARTING"], {"autoscaling_config": {"min_replicas": 0, "max_replicas": 4}},
         "no replica of application birds"),
        (["RUNNING", "STARTING"], {"autoscaling_config": {"min_replicas": 3, "max_replicas": 4}},
         "only 1 of the 3 replicas of application birds"),
        (["RUNNING", "STARTING"], {"num_replicas": 2}, "only 1 of the 2 replicas of application birds"),
    ],
)  # fmt: skip
def test_enough_replicas_are_no_news(states: list[str], config: Mapping[str, Any], said: str | None) -> None:
    """Waiting replicas are reported only below `min_replicas`; others may wait for resources while the load lasts."""
    news = WaitingReplicas(lambda: _applications(states, **config)).news(WARNING)
    assert (news and news.partition(" can be placed")[0]) == said
    assert said is None or "each needs 2 CPU and 0.5 GPU, and free on this machine is 1 CPU" in str(news)


@pytest.mark.parametrize("needed", ["{}", "{'CPU': 1.0}", "{'CPU': 0.5, 'GPU': 0.0}"])
def test_replicas_that_have_room_are_said_to_be_starting(needed: str) -> None:
    """Replicas that have room are only slow to start, as many at once are; no setting is to blame."""
    warning = WARNING.replace("{'CPU': 2.0, 'GPU': 0.5}", needed)
    waiting = WaitingReplicas(lambda: _applications(["RUNNING", "STARTING"], num_replicas=2))
    assert waiting.news(warning) == (
        "only 1 of the 2 replicas of application birds has started so far: this machine has room, and Ray is still "
        "starting processes"
    )


def test_free_shares_of_gpus_are_not_taken_for_room() -> None:
    """Shares that are free on several GPUs are not room for a larger share: it has to be on one GPU."""
    warning = WARNING.replace("'CPU': 2.0", "'CPU': 1.0").replace("{'CPU': 1.0}.", "{'CPU': 1.0, 'GPU': 0.8}.")
    said = WaitingReplicas(lambda: _applications(["STARTING"], num_replicas=1)).news(warning)
    assert "can be placed: each needs 1 CPU and 0.5 GPU, and free on this machine is 1 CPU and 0.8 GPU" in str(said)


def test_it_is_said_once_and_again_after_it_was_well() -> None:
    states = [["STARTING"], ["STARTING"], ["RUNNING"], ["STARTING"]]
    waiting = WaitingReplicas(lambda: _applications(states.pop(0), num_replicas=1))
    assert [waiting.news(WARNING) is not None for _ in range(4)] == [True, False, False, True]


@pytest.mark.parametrize(
    "error", [ServeApiError("the run has no dashboard"), ValueError("no JSON"), FileNotFoundError()]
)
def test_it_is_said_where_serve_cannot_be_asked(error: Exception) -> None:
    def fail() -> Mapping[str, Any]:
        raise error

    assert "no replica of application birds" in str(WaitingReplicas(fail).news(WARNING))
    assert "no replica of application birds" in str(WaitingReplicas(lambda: _applications([])).news(WARNING))


def test_other_warnings_are_not_its_concern() -> None:
    waiting = WaitingReplicas(dict)
    assert waiting.concerns(WARNING)
    assert not waiting.concerns(WARNING.replace("scheduled", "initialized"))
    assert waiting.news("WARNING 2026-01-31 12:00:00,000 controller 1 -- something else") is None
