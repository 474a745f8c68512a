"""The shipped serve_config.yaml and serve.env. Serve itself ignores unknown keys at most levels."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._common.usage.usage_constants import USAGE_STATS_ENABLED_ENV_VAR
from ray._private import services
from ray.serve._private import constants

from deployments.config import LiveConfig, ServiceConfig
from deployments.endpoint import read_env
from deployments.strict import all_faults
from tests.service import ROOT, Document, shipped_config


def test_the_shipped_file_has_no_unknown_key() -> None:
    """At any level, down to the autoscaler's."""
    assert all_faults(shipped_config(), {}) == []


@pytest.mark.parametrize(
    "path",
    [
        "prot",
        "http_options.prot",
        "applications.0.prot",
        "applications.0.logging_config.prot",
        "applications.0.deployments.0.prot",
        "applications.0.deployments.0.autoscaling_config.prot",
    ],
)
def test_the_check_above_can_fail(path: str) -> None:
    """A misspelt key is found at every level."""
    document: Any = shipped_config()
    place = document
    *way, key = path.split(".")
    for step in way:
        place = place[int(step)] if step.isdecimal() else place[step]
    place[key] = 1
    assert any(fault.startswith(f"{path}: no such key") for fault in all_faults(document, {}))


def test_the_shipped_args_and_user_config_fit_together() -> None:
    """By the strict models, cross-checks included."""
    application = shipped_config()["applications"][0]
    config = ServiceConfig.model_validate(application["args"])
    config.check_live(LiveConfig.model_validate(application["deployments"][0]["user_config"]))


def test_the_shipped_user_config_names_every_live_setting() -> None:
    """The file is where a deployed value stands; none is left to a default that nobody sees."""
    user_config: Document = shipped_config()["applications"][0]["deployments"][0]["user_config"]
    assert set(user_config) == set(LiveConfig.model_fields)
    assert user_config == LiveConfig().model_dump()


def test_requests_in_a_replica_leave_room_for_the_autoscaler() -> None:
    """Behind HAProxy a replica is seen as overloaded only if it may take twice what it is aimed at."""
    application = shipped_config()["applications"][0]
    target = application["deployments"][0]["autoscaling_config"]["target_ongoing_requests"]
    assert application["args"]["max_ongoing_requests"] >= 2 * target


def test_a_replica_that_does_not_answer_is_ended_within_half_a_minute() -> None:
    """Three health checks in a row, each started within 1.1 periods and given up after its time limit."""
    deployment = shipped_config()["applications"][0]["deployments"][0]
    period_s, timeout_s = deployment["health_check_period_s"], deployment["health_check_timeout_s"]
    threshold = constants.REPLICA_HEALTH_CHECK_UNHEALTHY_THRESHOLD
    assert threshold * max(1.1 * period_s, timeout_s) + 1.1 * period_s < 25
    assert read_env(ROOT / "serve.env")["RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS"] == "1"


@pytest.mark.parametrize(
    ("available", "fits"),
    [
        ({"CPU": 2.0, "GPU": 1.0}, True),
        ({"CPU": 1.5, "GPU": 1.0}, False),
        ({"CPU": 2.0}, False),
        ({"GPU": 1.0}, False),
    ],
    ids=str,
)
def test_a_replica_fits_where_all_that_it_reserves_is_free(available: dict[str, float], fits: bool) -> None:
    """What is used up is missing among a cluster's free resources."""
    config = ServiceConfig().fitted({"CPU": 2.0, "GPU": 1.0})
    assert (config.num_cpus, config.num_gpus) == (2.0, 1)
    assert config.fits(available) is fits


@pytest.mark.parametrize(
    ("pipeline", "cluster", "sizes"),
    [
        ({}, {"CPU": 2.0}, (1, 2, 2)),
        ({}, {"CPU": 16.0}, (1, 2, 2)),
        ({}, {"CPU": 1.0}, (1, 1, 1)),
        ({}, {"CPU": 0.5}, (1, 1, 0.5)),
        ({"workers": 3, "threads": 4}, {"CPU": 16.0}, (3, 4, 7)),
        ({"workers": 3}, {"CPU": 2.0}, (3, 2, 2)),
        ({}, {"CPU": 16.0, "GPU": 2.0}, (7, 1, 8)),
        ({"device": "cpu"}, {"CPU": 16.0, "GPU": 2.0}, (1, 2, 2)),
    ],
    ids=str,
)
def test_a_replica_is_as_large_as_its_share_of_the_cluster(
    pipeline: Document, cluster: dict[str, float], sizes: tuple[int, int, float]
) -> None:
    """Workers, threads of the model, and the CPUs that Ray reserves."""
    config = ServiceConfig.model_validate({"pipeline": pipeline}).fitted(cluster)
    assert (config.pipeline.workers, config.pipeline.threads, config.num_cpus) == sizes


def test_serve_env_names_only_what_serve_reads() -> None:
    """A misspelt variable would be ignored in silence."""
    raylet = Path(services.RAYLET_EXECUTABLE).read_bytes()  # knows Ray's other settings by their names
    for name in read_env(ROOT / "serve.env"):
        known_to_serve = any(hasattr(constants, n) for n in (name, name.removeprefix("RAY_SERVE_")))
        assert (
            known_to_serve
            or name.encode() in raylet
            or name in (USAGE_STATS_ENABLED_ENV_VAR, "MALLOC_ARENA_MAX")  # the latter is glibc's: mallopt(3)
        ), name


def test_the_file_is_yaml_that_people_can_read() -> None:
    """Block style with comments, not one line of JSON."""
    text = (ROOT / "serve_config.yaml").read_text()
    assert yaml.safe_load(text) == shipped_config()
    assert text.count("#") > 5
