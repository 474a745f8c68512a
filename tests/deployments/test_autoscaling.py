"""Tests of autoscaling by work: as a function, and in a simulated service with Serve's own delays and bounds."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import cloudpickle
from ray.serve._private.common import TimeStampedValue
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from deployments.autoscaling import CPUS, DEMAND, GPUS, ByWork, max_age_s
from deployments.node import Node
from harness.local_service import shipped_config
from harness.scaling_simulation import IMAGES_PER_S, STEP_S, Arrivals, Moment, ScalingSimulation, SimulatedService

NOW_S = 1_000.0
QUIET_S = 20.0


class _WithRoom(ByWork):
    """The policy, on nodes with these free resources."""

    free: Sequence[Node] = (Node(cpus=1e6),)

    def _free_on_nodes(self) -> Sequence[Node]:
        return self.free


@dataclass
class _Context:
    """Fields of Serve's context that the policy reads."""

    current_num_replicas: int
    target_num_replicas: int
    raw_metrics: dict[str, dict[Any, list[TimeStampedValue]]] = field(default_factory=dict)
    current_time: float = NOW_S
    policy_state: dict[str, Any] = field(default_factory=dict)
    config: AutoscalingConfig = field(default_factory=AutoscalingConfig)


def _context(demands: Sequence[float], running: int, target: int, *, age_s: float = 1.0, **size: float) -> _Context:
    def series(value: float) -> list[TimeStampedValue]:
        return [TimeStampedValue(NOW_S - age_s - 1, 99.0), TimeStampedValue(NOW_S - age_s, value)]

    sizes = {CPUS: 2.0, GPUS: 0.0} | size
    return _Context(
        running,
        target,
        {DEMAND: dict(enumerate(map(series, demands)))}
        | {name: {number: series(value) for number in range(len(demands))} for name, value in sizes.items()},
    )


def _wanted(policy: ByWork, context: _Context) -> int:
    return policy(cast(AutoscalingContext, context))[0]


@pytest.mark.parametrize(
    ("demands", "running", "target", "wanted"),
    [
        ([0.5], 1, 1, 1),
        ([0.75], 1, 1, 1),
        ([0.76], 1, 1, 2),
        ([2.0, 2.0], 2, 2, 6),  # 4 replicas' work in shares of 0.75
        ([0.5, 0.5], 2, 2, 2),  # one would be busy all the time
        ([0.4, 0.4], 2, 2, 2),  # and one at 0.8 is above 0.75
        ([0.35, 0.35], 2, 2, 2),  # and one at 0.7 is too near to it
        ([0.3, 0.29], 2, 2, 1),
        ([0.0, 0.0], 2, 2, 0),
        ([1.3], 1, 3, 3),  # two are starting
        ([0.1], 1, 3, 1),
        ([0.1], 2, 2, 2),  # one has not reported yet
        ([2.0], 2, 2, 3),  # but its neighbour has enough for three
        ([], 1, 1, 1),
        ([], 0, 0, 0),
    ],
)
def test_the_number_follows_the_sum_of_the_demands(
    demands: Sequence[float], running: int, target: int, wanted: int
) -> None:
    """Each replica is busy for at most three quarters of the time, and one stops only if the rest stay below 60 %."""
    assert _wanted(_WithRoom(), _context(demands, running, target)) == wanted


@pytest.mark.parametrize(
    "config",
    [AutoscalingConfig(), AutoscalingConfig(metrics_interval_s=0.5, look_back_period_s=2)],
    ids=["Serve's own intervals", "shipped"],
)
def test_reports_count_until_they_are_too_old(config: AutoscalingConfig) -> None:
    """A report counts for as long as the next one may take; then its replica hangs or has gone, and does not decide."""
    policy = _WithRoom()
    recorded_every_s = min(0.2 * config.look_back_period_s, config.metrics_interval_s)
    for age_s, busy, idle in (
        (config.metrics_interval_s + recorded_every_s + 1, 8, 0),
        (max_age_s(config) + 1, 2, 2),
    ):
        for demand, wanted in ((3.0, busy), (0.0, idle)):
            context = _context([demand, demand], 2, 2, age_s=age_s)
            context.config = config
            assert _wanted(policy, context) == wanted, age_s


def test_a_silent_replica_takes_none_away_that_are_needed() -> None:
    """While one does not report, the number needed is not known anew; the number wanted by the others still counts."""
    policy = _WithRoom()
    _, state = policy(cast(AutoscalingContext, _context([0.75] * 4, 4, 4)))
    context = _context([4.5 / 3] * 3, 4, 6)
    context.policy_state = state
    assert _wanted(policy, context) == 6


def test_the_last_replica_waits_for_serves_delay_alone() -> None:
    """From one replica to none the latest demand decides at once, since Serve waits `downscale_to_zero_delay_s`."""
    policy, busy = _WithRoom(), _context([0.5], 1, 1)
    _, state = policy(cast(AutoscalingContext, busy))
    idle = _context([0.0], 1, 1)
    idle.policy_state = state
    assert _wanted(policy, idle) == 0


@pytest.mark.parametrize(
    ("free", "gpus", "wanted"),
    [
        ([Node(1.9)], 0.0, 1),
        ([Node(2.0)], 0.0, 2),
        ([Node(3.0), Node(3.0)], 0.0, 3),  # half of a replica on each of two nodes is none
        ([Node(64.0)], 0.5, 1),
        ([Node(64.0, 1.0), Node(1.0, 8.0)], 0.5, 3),
        ([Node(64.0, 0.9999)], 0.3333, 4),
        ([Node(64.0, 2.0)], 0.6, 3),  # a share is on one GPU
        ([Node(64.0, 1.0)], 1.0, 2),
        ([Node(64.0, 3.0)], 2.0, 2),
        ([], 0.0, 1),
    ],
)
def test_no_replica_is_wanted_that_no_node_has_room_for(free: list[Node], gpus: float, wanted: int) -> None:
    """Free resources count node by node. Where nodes are added for waiting replicas, the room does not matter."""
    context = _context([3.0], 1, 1, **{GPUS: gpus})
    fitting, waiting = _WithRoom(), _WithRoom(wait_for_nodes=True)
    fitting.free = waiting.free = free
    assert _wanted(fitting, context) == wanted
    assert _wanted(waiting, context) == 4


def test_without_knowledge_of_the_nodes_no_replica_is_added(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If Ray does not tell the free resources, the number stays, and the controller goes on with other applications."""
    policy = _WithRoom()
    monkeypatch.setattr(policy, "_free_on_nodes", lambda: 1 / 0)
    with caplog.at_level(logging.ERROR, "ray.serve"):
        monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)
        assert _wanted(policy, _context([3.0], 1, 1)) == 1
    assert "the free resources of the nodes are unknown; no replica is added" in caplog.text


def test_replicas_that_start_have_taken_their_room() -> None:
    """While replicas start, no more are wanted than surely fit, and none is given up."""
    policy = _WithRoom()
    policy.free = [Node(1.0)]
    assert _wanted(policy, _context([9.0], 1, 3)) == 3


@given(
    demands=st.lists(st.floats(0, 5), min_size=1, max_size=8),
    starting=st.integers(0, 4),
    busy=st.floats(0.1, 1),
    hysteresis=st.floats(0.1, 1),
)
def test_the_number_is_reached_in_one_step(demands: list[float], starting: int, busy: float, hysteresis: float) -> None:
    """Asked again with that number, and the same work shared among them, it wants no other: it does not oscillate."""
    policy = _WithRoom(busy, hysteresis)
    wanted = _wanted(policy, _context(demands, len(demands), len(demands) + starting))
    if wanted:
        shared = [sum(demands) / wanted] * wanted
        assert _wanted(policy, _context(shared, wanted, wanted)) == wanted


@pytest.mark.parametrize("busy", [0, -0.5, 1.1, math.nan, "high", True])
def test_a_share_that_is_none_is_refused(busy: Any) -> None:
    """A value that is no share of the time is refused, with its name."""
    with pytest.raises(ValueError, match=r"^busy: .* must be a number above 0 and at most 1$"):
        ByWork(busy)


def test_the_shipped_path_leads_to_the_policy_in_the_controller() -> None:
    """Serve finds the policy by its path in the shipped configuration, and sends it to its controller by value."""
    scaling = shipped_config()["applications"][0]["deployments"][0]["autoscaling_config"]
    policy: Any = AutoscalingConfig(**scaling).policy
    sent = cloudpickle.loads(policy.get_serialized_policy_def())
    assert _wanted(sent(wait_for_nodes=True), _context([0.76], 1, 1)) == 2


# ---- in a simulated service -----------------------------------------------------------------------------------------


def _simulated(arrivals: Arrivals, *, images_per_request: int = 1, for_s: float = 300.0) -> list[Moment]:
    scaling = shipped_config()["applications"][0]["deployments"][0]["autoscaling_config"]
    service = SimulatedService(AutoscalingConfig(**scaling | {"max_replicas": 8}), images_per_request)
    return list(ScalingSimulation(ByWork(wait_for_nodes=True), service).run(arrivals, for_s))


def _from(per_s: float) -> Arrivals:
    return lambda at_s, _: STEP_S * (per_s if at_s >= QUIET_S else 1.0)


@pytest.mark.parametrize("images_per_request", [1, 32, 256])
@pytest.mark.parametrize("per_s", [90.0, 250.0, 500.0])
def test_a_step_is_followed_within_5_s_and_without_oscillation(per_s: float, images_per_request: int) -> None:
    """More replicas are asked for within 5 s of a step, whatever a request holds; then the number settles for good."""
    moments = _simulated(_from(per_s), images_per_request=images_per_request)
    targets = [moment.target for moment in moments]
    after = [moment for moment in moments if moment.at_s >= QUIET_S]
    assert targets[int(QUIET_S / STEP_S) - 1] == 1
    needed = math.ceil(per_s / IMAGES_PER_S)
    asked_at_s = next(moment.at_s for moment in after if moment.target > 1)
    assert asked_at_s <= QUIET_S + 5
    settled = {moment.target for moment in after if moment.at_s > QUIET_S + 120}
    assert len(settled) == 1
    assert needed <= settled.pop() <= math.ceil(needed / 0.6)
    directions = [new > old for old, new in pairwise(targets) if new != old]
    assert directions == sorted(directions, reverse=True)  # up, and then down, once


def test_intermittent_load_keeps_its_replicas() -> None:
    """Load that comes for 2 s in every 10 does not read as idle: once there are enough replicas, they stay."""
    moments = _simulated(lambda at_s, _: STEP_S * (300.0 if at_s % 10 < 2 else 1.0))
    settled = {moment.target for moment in moments if moment.at_s > 100}
    assert len(settled) == 1
    assert settled.pop() >= 2
    assert not any(moment.refused for moment in moments)


def test_refused_requests_are_demand() -> None:
    """A service that refuses most of its requests grows, although those that it answers keep only one replica busy."""
    moments = _simulated(_from(IMAGES_PER_S * 7.5), for_s=120.0)
    assert moments[-1].running == 8
    assert not any(moment.refused for moment in moments[-300:])


def test_quiet_replicas_are_stopped_after_the_delay() -> None:
    """Replicas that are not needed any more go after once to twice `downscale_delay_s`, not sooner."""
    moments = _simulated(lambda at_s, _: STEP_S * (350.0 if at_s < 60 else 5.0))
    last = [moment for moment in moments if moment.target > 4][-1]
    delay_s = shipped_config()["applications"][0]["deployments"][0]["autoscaling_config"]["downscale_delay_s"]
    assert 60 + delay_s <= last.at_s <= 60 + 2 * delay_s + 5
    assert moments[-1].running == 1
