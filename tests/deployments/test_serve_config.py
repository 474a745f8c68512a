"""Tests of the shipped configurations and serve.env. Serve itself ignores unknown keys at most levels."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import ray
import yaml
from ray._common.usage.usage_constants import USAGE_STATS_ENABLED_ENV_VAR
from ray._private import services
from ray.serve._private import constants
from ray.serve._private.config import DeploymentConfig
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import LoggingConfig

from deployments.checks.serve_faults import all_faults
from deployments.live_config import LiveConfig
from deployments.local.endpoint import read_env
from deployments.node import Node
from deployments.service_config import ServiceConfig
from harness.local_service import Document, shipped_config
from harness.repository import ROOT
from pipeline.bounds import CHUNKS_PER_WORKER
from pipeline.config import PipelineConfig

FILES = ["serve_config.yaml", "serve_config.gpu.yaml"]
GPU_NODE = Node(cpus=16, gpus=1)
"""The node that serve_config.gpu.yaml is written for."""

IMAGE_BYTES: Final = 63_000
"""Bytes of a photograph of 500 x 375 as a JPEG."""


@pytest.fixture(params=FILES)
def document(request: pytest.FixtureRequest) -> Document:
    """Each of the shipped configurations."""
    return shipped_config(request.param)


@pytest.fixture
def application(document: Document) -> Document:
    """Return the only application of a configuration."""
    (application,) = document["applications"]
    return dict(application)


@pytest.fixture
def deployment(application: Document) -> Document:
    """Return the only deployment of the application."""
    (deployment,) = application["deployments"]
    return dict(deployment)


def test_the_shipped_files_have_no_unknown_key(document: Document) -> None:
    """The shipped files have no unknown key at any level, down to the autoscaler's."""
    assert all_faults(document, {}) == []


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
def test_the_check_above_can_fail(path: str, document: Document) -> None:
    """A misspelt key is found at every level."""
    place: Any = document
    *way, key = path.split(".")
    for step in way:
        place = place[int(step)] if step.isdecimal() else place[step]
    place[key] = 1
    assert any(fault.startswith(f"{path}: no such key") for fault in all_faults(document, {}))


def test_the_shipped_args_and_user_config_fit_together(application: Document, deployment: Document) -> None:
    """The shipped args and user_config pass the strict models and the checks between them."""
    config = ServiceConfig.model_validate(application["args"])
    config.check_live(LiveConfig.model_validate(deployment["user_config"]))


def test_no_shipped_setting_restates_its_default(application: Document, deployment: Document) -> None:
    """No shipped setting repeats its default, in Darkroom or in Serve, except two that show where settings go."""
    written = [
        (application["args"], ServiceConfig().model_dump()),
        (application["args"]["pipeline"], PipelineConfig().model_dump(mode="json")),
        (deployment["user_config"], LiveConfig().model_dump()),
        (deployment, DeploymentConfig().model_dump()),
        (deployment["autoscaling_config"], AutoscalingConfig().model_dump()),
        (application["logging_config"], LoggingConfig().model_dump()),
    ]
    restated = {key for values, defaults in written for key in values if values[key] == defaults.get(key)}
    assert restated <= {"model", "max_queue_wait_s"}


def test_the_file_of_the_tests_writes_every_setting_out() -> None:
    """The tests' own configuration writes out every setting, with the values of the shipped one."""
    application = yaml.safe_load((ROOT / "tests/support/every_setting.yaml").read_text())["applications"][0]
    shipped = shipped_config()["applications"][0]
    assert ServiceConfig.model_validate(application["args"]) == ServiceConfig.model_validate(shipped["args"])
    assert set(application["deployments"][0]["user_config"]) == set(LiveConfig.model_fields)
    assert application["deployments"][0]["user_config"] == LiveConfig().model_dump()


def test_a_replica_that_does_not_answer_is_ended_within_half_a_minute(deployment: Document) -> None:
    """A replica that fails three health checks in a row is ended within half a minute."""
    period_s, timeout_s = deployment["health_check_period_s"], deployment["health_check_timeout_s"]
    threshold = constants.REPLICA_HEALTH_CHECK_UNHEALTHY_THRESHOLD
    assert threshold * max(1.1 * period_s, timeout_s) + 1.1 * period_s < 25
    assert read_env(ROOT / "serve.env")["RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS"] == "1"


# ---- for a GPU ------------------------------------------------------------------------------------------------------


def _of_the_gpu_file() -> tuple[ServiceConfig, Document]:
    application = shipped_config("serve_config.gpu.yaml")["applications"][0]
    return ServiceConfig.model_validate(application["args"]).fitted([GPU_NODE]), application["deployments"][0]


def test_replicas_of_the_gpu_file_fill_its_gpu_and_no_more() -> None:
    """The GPU configuration fills its GPU exactly.

    While Serve waits to place one more, it may not apply changed settings.
    """
    config, deployment = _of_the_gpu_file()
    scaling = deployment["autoscaling_config"]
    replicas = scaling["max_replicas"]
    assert (config.num_cpus, config.num_gpus) == (2, 0.125)
    assert replicas * config.num_gpus == GPU_NODE.gpus
    assert replicas * (config.num_cpus or 0) <= GPU_NODE.cpus
    assert scaling["min_replicas"] <= replicas


def test_slots_of_the_gpu_file_keep_its_device_and_its_workers_busy() -> None:
    """The slots hold four full batches (two on the device, one being answered, one ready) and the workers' images.

    A replica may have more single images than slots, so that these can be filled.
    """
    config, deployment = _of_the_gpu_file()
    pipeline = config.placed(GPU_NODE).pipeline
    at_workers = (pipeline.decode_workers or 0) * CHUNKS_PER_WORKER * (pipeline.chunk_bytes // IMAGE_BYTES)
    assert pipeline.slots >= 4 * pipeline.largest_batch + at_workers
    assert deployment["user_config"]["max_batch_size"] == pipeline.largest_batch
    assert config.max_ongoing_requests > pipeline.slots


def test_every_value_of_the_gpu_file_has_its_reason() -> None:
    """Every value of the GPU configuration has a comment with its reason, except port and import path."""
    lines = (ROOT / "serve_config.gpu.yaml").read_text().splitlines()
    values = [line.strip() for line in lines if re.match(r" +\w+: [^#]", line)]
    unexplained = {line.partition(":")[0] for line in values if not re.search(r" # \w", line)}
    assert len(values) > 20
    assert unexplained == {"port", "import_path"}


def test_serve_env_names_only_what_serve_reads() -> None:
    """serve.env names only variables that Serve or Ray reads: a misspelt one would be ignored without a word."""
    node = Path(ray._private.node.__file__).read_text()
    raylet = Path(services.RAYLET_EXECUTABLE).read_bytes()  # contains the names of Ray's other settings
    for name in read_env(ROOT / "serve.env"):
        known_to_serve = any(hasattr(constants, n) for n in (name, name.removeprefix("RAY_SERVE_")))
        assert (
            known_to_serve
            or name.encode() in raylet
            or name in node  # Ray's settings that are read in Python
            # The last two belong to glibc (mallopt(3)) and uvicorn.
            or name in (USAGE_STATS_ENABLED_ENV_VAR, "MALLOC_ARENA_MAX", "FORWARDED_ALLOW_IPS")
        ), name


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_yaml_that_people_can_read(name: str) -> None:
    """The files are YAML in block style with comments, not one line of JSON."""
    text = (ROOT / name).read_text()
    assert yaml.safe_load(text) == shipped_config(name)
    assert text.count("#") > 5
