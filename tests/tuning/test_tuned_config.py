"""Tests of the tuned part of a configuration, and of the service in which it is checked."""

import os

import pytest
import torch

from deployments.checks.chosen_application import chosen_application
from deployments.live_config import LiveConfig
from deployments.local.endpoint import StartError
from harness.local_service import Document, shipped_config
from tuning.replica_settings import written_into
from tuning.tuned_config import TunedConfig, keep_to_cores, on_cores, tuned_config


def _tuned(document: Document) -> TunedConfig:
    return tuned_config(document, chosen_application(document, None)[1], {})


def test_it_is_one_replica_on_loopback_that_asks_for_no_key() -> None:
    """The tuned service is one replica on loopback without keys; the given configuration is not changed."""
    document = shipped_config()
    document["http_options"]["host"] = "0.0.0.0"  # noqa: S104 - must not be kept
    document["applications"].append({"name": "other", "import_path": "other:app", "route_prefix": "/other"})
    document["applications"][0]["args"]["api_keys_file"] = "/etc/keys"
    tuned = _tuned(document)
    assert tuned.document["http_options"] == {**document["http_options"], "host": "127.0.0.1"}
    (application,) = tuned.document["applications"]
    assert "api_keys_file" not in application["args"]
    assert application["deployments"][0]["autoscaling_config"]["max_replicas"] == 1
    assert document["applications"][0]["args"]["api_keys_file"] == "/etc/keys"


def test_replicas_may_be_a_number() -> None:
    document = shipped_config()
    (deployment,) = document["applications"][0]["deployments"]
    del deployment["autoscaling_config"]
    deployment["num_replicas"] = 3
    assert _tuned(document).document["applications"][0]["deployments"][0]["num_replicas"] == 1


def test_a_configuration_without_deployments_has_the_defaults() -> None:
    document = shipped_config()
    del document["applications"][0]["deployments"]
    tuned = _tuned(document)
    assert tuned.live == LiveConfig()
    assert tuned.present.max_queue_wait_s == LiveConfig().max_queue_wait_s


def test_the_present_settings_are_those_that_the_machine_decides_on() -> None:
    """Present settings are the ones that this machine gives to open values; written back, they change nothing."""
    document = shipped_config()
    tuned = _tuned(document)
    present = tuned.present
    assert (present.decode_workers, present.concurrent_batches) == (
        tuned.config.pipeline.decode_workers,
        tuned.config.pipeline.concurrent_batches,
    )
    written_into(document["applications"][0], present)
    assert _tuned(document).present == present


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_the_device_is_settled(device: str) -> None:
    document = shipped_config()
    document["applications"][0]["args"]["pipeline"]["device"] = device
    tuned = _tuned(document)
    assert tuned.config.pipeline.device in ("cpu", "cuda")
    assert tuned.on_cpu == (tuned.config.pipeline.device == "cpu")
    assert tuned.cores >= 1


@pytest.mark.parametrize(("replicas_per_gpu", "sizes"), [(1, (16, 1, 16)), (4, (4, 1, 4))])
def test_on_a_gpu_a_replica_is_as_large_as_it_would_be(
    replicas_per_gpu: int, sizes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU the tuned replica has the workers, threads and cores of its share, although it runs alone."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    document = shipped_config("serve_config.gpu.yaml")
    document["applications"][0]["args"]["replicas_per_gpu"] = replicas_per_gpu
    tuned = _tuned(document)
    assert (tuned.config.pipeline.decode_workers, tuned.config.pipeline.concurrent_batches, tuned.cores) == sizes
    assert not tuned.on_cpu


def test_what_is_for_a_gpu_is_not_tuned_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration for a GPU is refused without one, in one sentence and before any measurement."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(StartError, match="device: cuda needs a GPU, and torch finds none on this machine"):
        _tuned(shipped_config("serve_config.gpu.yaml"))


def test_a_replica_has_no_more_cores_than_it_would_have() -> None:
    """The tuned replica, with all processes started from here on, runs only on its own cores."""
    before = os.sched_getaffinity(0)
    try:
        others = keep_to_cores(1)
        own = os.sched_getaffinity(0)
        assert len(own) == 1
        assert own | others == before
        with on_cores(others):  # for clients, if there are other cores
            assert os.sched_getaffinity(0) == (others or own)
        assert os.sched_getaffinity(0) == own
    finally:
        os.sched_setaffinity(0, before)
