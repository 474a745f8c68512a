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
