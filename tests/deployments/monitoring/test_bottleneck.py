"""Tests of the verdict on a replica: one sentence that names its bottleneck."""

from dataclasses import replace
from typing import Any

import pytest

from deployments.monitoring.bottleneck import ReplicaLoad, State, verdict

QUIET = ReplicaLoad(
    requests_per_s=10.0,
    overloaded=0.0,
    reading=0.1,
    most_decoding=4,
    workers_busy=0.05,
    concurrent_batches=1,
    device_busy=0.02,
    interpreter_busy=0.03,
    reserved_cores=4,
    cores=16,
    cores_busy=0.1,
    on_cpu=False,
)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, State.IDLE),
        ({"requests_per_s": 0.0, "workers_busy": 0.0, "device_busy": 0.0}, State.IDLE),
        ({"workers_busy": 0.5}, State.UNSATURATED),
        ({"interpreter_busy": 0.5}, State.UNSATURATED),
        ({"workers_busy": 0.98, "device_busy": 0.41}, State.DECODE_BOUND),
        ({"workers_busy": 0.5, "device_busy": 0.97}, State.DEVICE_BOUND),
        ({"workers_busy": 0.9, "device_busy": 0.95}, State.DEVICE_BOUND),
        ({"workers_busy": 0.6, "device_busy": 0.3, "cores_busy": 0.99}, State.DECODE_BOUND),
        ({"cores_busy": 0.99}, State.IDLE),  # other processes use the cores
        ({"interpreter_busy": 0.96, "workers_busy": 0.9}, State.INTERPRETER_BOUND),
        ({"interpreter_busy": 0.9, "workers_busy": 0.96}, State.DECODE_BOUND),
        ({"reading": 0.8}, State.NETWORK_BOUND),
        ({"reading": 0.8, "device_busy": 0.9}, State.DEVICE_BOUND),
        ({"overloaded": 0.4, "device_busy": 0.99}, State.OVERLOADED),
        ({"overloaded": 0.005, "device_busy": 0.99}, State.DEVICE_BOUND),
    ],
    ids=str,
)
def test_the_first_rule_that_holds_decides(changes: dict[str, Any], state: State) -> None:
    """The first rule that applies decides, and the sentence begins with the name of the state."""
    given = verdict(replace(QUIET, **changes))
    assert given.state == state
    assert given.sentence.startswith(f"{state}: ")


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"device_busy": 0.41}, "6 more workers would help until the device is full"),
        ({"device_busy": 0.8}, "1 more worker would help until the device is full"),
        ({"device_busy": 0.1}, "14 more workers would help and there are cores for no more (device 45% then)"),
        ({"device_busy": 0.96}, "the device is nearly full too"),
        ({"device_busy": 0.41, "cores_busy": 1.0}, "the 16 cores are in use, so only more cores would help"),
        ({"device_busy": 0.41, "cores_busy": 0.7, "on_cpu": True}, "4 more workers would help and there are cores for"),
    ],
    ids=str,
)
def test_more_workers_pay_until_the_device_is_full_or_no_core_is_left(changes: dict[str, Any], advice: str) -> None:
    """More workers are advised until the device is full or no core is free.

    On the CPU the model needs these cores too.
    """
    assert advice in verdict(replace(QUIET, workers_busy=0.98, **changes)).sentence


@pytest.mark.parametrize(("on_cpu", "advice"), [(True, "more cores would"), (False, "another GPU")])
def test_a_full_device_needs_no_more_workers(on_cpu: bool, advice: str) -> None:
    sentence = verdict(replace(QUIET, device_busy=0.97, on_cpu=on_cpu)).sentence
    assert "device 97% busy, workers 5%; more workers would not help" in sentence
    assert advice in sentence


def test_what_is_left_is_told() -> None:
    """The remaining capacity is that of the part that would be full first; here the cores."""
    assert "about 2.0 times" in verdict(replace(QUIET, workers_busy=0.4, cores_busy=0.5)).sentence


@pytest.mark.parametrize(
    ("changes", "used"),
    [
        ({}, 0.85),
        ({"on_cpu": False}, 0.45),
        ({"reserved_cores": 4.0}, 0.45),  # the cores could do twice as much
        ({"cores_busy": 0.07}, 0.56),  # the parts waited for each other, and cores were free
        ({"workers_busy": 1.0}, 1.0),
        ({"interpreter_busy": 0.9}, 0.9),
    ],
    ids=str,
)
def test_workers_and_model_share_the_cores_of_a_cpu(changes: dict[str, Any], used: float) -> None:
    """Two workers and two batches on two of 16 cores: with both half busy, the two are nearly full. A GPU is not."""
    shared = {"most_decoding": 2, "workers_busy": 0.45, "concurrent_batches": 2, "device_busy": 0.4}
    load = replace(QUIET, **{**shared, "reserved_cores": 2.0, "cores_busy": 0.5, "on_cpu": True, **changes})
    assert load.used == pytest.approx(used)
