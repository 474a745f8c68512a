"""Tests of autoscaling: replicas come with the load and go after it, and no request is lost."""

import time
from pathlib import Path

import pytest

from harness.local_service import Document, shipped_config
from tests.support.judged_load import JudgedLoad
from tests.support.running_service import Service, running
from tests.support.waiting import until


def _scaling_config() -> Document:
    """Return the shipped configuration, made to scale quickly, with two replicas that fit on two cores."""
    config = shipped_config()
    application = config["applications"][0]
    application["args"]["num_cpus"] = 1
    application["deployments"][0]["user_config"]["max_queue_wait_s"] = 60.0  # requests may wait, so none is refused
    application["deployments"][0]["autoscaling_config"]["downscale_delay_s"] = 3
    return config


@pytest.mark.slow
def test_replicas_follow_the_load(tmp_path: Path) -> None:
    """A second replica starts under load and ends after it; every request is answered with 200."""
    with running(tmp_path, _scaling_config()) as service:
        assert len(service.replicas()) == 1
        heavy = JudgedLoad(service.url, clients=32)
        until(lambda: _serving(service) == 2, timeout_s=90)
        time.sleep(3)  # both replicas get some load
        heavy.stop()
        light = JudgedLoad(service.url, clients=1)
        until(lambda: len(service.replicas()) == 1, timeout_s=90)
        light.stop()
    for load in (heavy, light):
        assert (load.wrong, load.unanswered, load.lost) == ([], [], {})


def _serving(service: Service) -> int:
    """Return the number of replicas that have workers, which means that they are ready."""
    return sum(len(replica.children(recursive=True)) >= 3 for replica in service.replicas())


@pytest.mark.slow
def test_the_last_replica_goes_and_comes_with_the_requests(tmp_path: Path) -> None:
    """With `min_replicas: 0` an idle service has no replica; the next request waits for one, and is answered."""
    config = _scaling_config()
    scaling = config["applications"][0]["deployments"][0]["autoscaling_config"]
    scaling.update(min_replicas=0, initial_replicas=1, downscale_to_zero_delay_s=3)
    with running(tmp_path, config) as service:
        until(lambda: len(service.replicas()) == 0, timeout_s=90)
        first = JudgedLoad(service.url, clients=1)
        until(lambda: first.answers.total() >= 3, timeout_s=90)
        first.stop()
        assert (first.wrong, first.lost) == ([], {})
        assert len(service.replicas()) >= 1
