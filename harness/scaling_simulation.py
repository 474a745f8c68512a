"""A simulated service under an autoscaling policy: replicas start, answer, refuse and report as real ones do.

The policy is the real one, and Serve's own code applies the delays and bounds of `autoscaling_config` to it. Only time,
requests and replicas are simulated.
"""

import statistics
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

from ray.serve import autoscaling_policy
from ray.serve._private.common import DeploymentID, TimeStampedValue
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from deployments.autoscaling import DEMAND
from deployments.monitoring.demand import DEMAND_OVER_S, demand

IMAGES_PER_S: Final = 100.0
"""Images that a replica answers in a second."""

STEP_S: Final = 0.1
_STEPS_PER_SECOND: Final = 10

Policy = Callable[[AutoscalingContext], tuple[int | float, dict[str, Any]]]
Arrivals = Callable[[float, float], float]
"""Images arriving in a step, from the time in seconds and the images answered in the previous step."""


@dataclass(frozen=True, slots=True)
class SimulatedService:
    """The simulated service.

    Args:
        scaling: its `autoscaling_config`.
        images_per_request: images in each request.
        max_queue_wait_s: seconds of work above which a replica refuses.
        start_s: seconds that the start of a replica takes.
    """

    scaling: AutoscalingConfig
    images_per_request: int = 1
    max_queue_wait_s: float = 10.0
    start_s: float = 8.0


@dataclass(frozen=True, slots=True)
class Moment:
    """State of the service at the end of a step."""

    at_s: float
    running: int
    reserved: int  # replicas that have resources: running, starting and stopping ones
    target: int
    arrived: float  # images
    refused: float  # images
    waits_s: float  # seconds that an image that arrives now will wait


@dataclass(slots=True)
class _Replica:
    ready_at_s: float
    waiting: float = 0.0  # images
    arrived: float = 0.0  # images of the current second
    refused: float = 0.0
    answered: float = 0.0
    seconds: deque[tuple[float, float, float]] = field(default_factory=lambda: deque(maxlen=DEMAND_OVER_S + 1))
    ongoing: deque[float] = field(default_factory=deque)
    demand: float | None = None

    def take(self, images: float, max_queue_wait_s: float) -> float:
        """Take images, or refuse them; return how many were refused."""
        self.arrived += images
        if self.waiting / IMAGES_PER_S > max_queue_wait_s:
            self.refused += images
            return images
        self.waiting += images
        return 0.0

    def work(self) -> float:
        """Answer images for one step; return how many."""
        answered = min(self.waiting, IMAGES_PER_S * STEP_S)
        self.waiting -= answered
        self.answered += answered
        return answered

    def end_second(self, look_back_s: float, images_per_request: int) -> None:
        """Report as a replica does: its demand, and requests in work over `look_back_period_s`."""
        backlog_s = self.waiting / IMAGES_PER_S
        refused = self.refused / self.arrived if self.arrived else 0.0
        self.seconds.append((self.answered / IMAGES_PER_S, refused, backlog_s))
        before = self.seconds[0][2] if len(self.seconds) > DEMAND_OVER_S else 0.0
        recent = [*self.seconds][-DEMAND_OVER_S:]
        self.demand = demand(
            busy=statistics.mean(busy for busy, _, _ in recent),
            refused=statistics.mean(share for _, share, _ in recent),
            backlog_s=backlog_s,
            growth=(backlog_s - before) / len(recent),
        )
        in_work = (self.waiting + self.answered / _STEPS_PER_SECOND) / images_per_request
        self.ongoing.append(in_work)
        while len(self.ongoing) > max(1, look_back_s):
            self.ongoing.popleft()
        self.arrived = self.refused = self.answered = 0.0


class ScalingSimulation:
    """Runs a policy against a load.

    Args:
        policy: the policy.
        service: the service that it scales.
    """

    def __init__(self, policy: Policy, service: SimulatedService) -> None:
        self._service = service
        self._decide = autoscaling_policy._apply_autoscaling_config(policy)
        self._state: dict[str, Any] = {}
        self._target = service.scaling.min_replicas
        self._replicas = [_Replica(0.0) for _ in range(self._target)]
        self._stopping: list[_Replica] = []
        self._arriving = self._now_s = 0.0

    def run(self, arrivals: Arrivals, for_s: float) -> Iterator[Moment]:
        """Yield the state of the service after each step."""
        answered, clock = 0.0, SimpleNamespace(time=lambda: self._now_s)
        with patch.object(autoscaling_policy, "time", clock):
            for step in range(round(for_s * _STEPS_PER_SECOND)):
                self._now_s = step / _STEPS_PER_SECOND
                arrived = arrivals(self._now_s, answered)
                refused = self._dispatch(arrived)
                answered = sum(replica.work() for replica in (*self._running, *self._stopping))
                self._stopping = [replica for replica in self._stopping if replica.waiting]
                if (step + 1) % _STEPS_PER_SECOND == 0:
                    for replica in self._running:
                        replica.end_second(self._service.scaling.look_back_period_s, self._service.images_per_request)
                self._scale()
                yield self._moment(arrived, refused)

    @property
    def _running(self) -> list[_Replica]:
        return [replica for replica in self._replicas if replica.ready_at_s <= self._now_s]

    def _dispatch(self, images: float) -> float:
        """Give each whole request to the replica with the least work; return how many images were refused."""
        running, refused, together = self._running, 0.0, self._service.images_per_request
        self._arriving += images
        while self._arriving >= together:
            self._arriving -= together
            least = min(running, key=lambda replica: replica.waiting, default=None)
            refused += least.take(together, self._service.max_queue_wait_s) if least else together
        return refused

    def _scale(self) -> None:
        bounds = self._service.scaling.min_replicas, self._service.scaling.max_replicas
        wanted, self._state = self._decide(self._context())
        self._target = max(bounds[0], min(bounds[1], wanted))
        while len(self._replicas) < self._target:
            self._replicas.append(_Replica(self._now_s + self._service.start_s))
        while len(self._replicas) > self._target:
            stopped = self._replicas.pop()
            if stopped.ready_at_s <= self._now_s:
                self._stopping.append(stopped)

    def _context(self) -> AutoscalingContext:
        running = self._running
        reports: dict[Any, list[TimeStampedValue]] = {
            number: [TimeStampedValue(self._now_s, replica.demand)]
            for number, replica in enumerate(running)
            if replica.demand is not None
        }
        return AutoscalingContext(
            deployment_id=DeploymentID(""),
            deployment_name="",
            app_name=None,
            current_num_replicas=len(running),
            target_num_replicas=self._target,
            running_replicas=[],
            total_num_requests=sum(statistics.mean(replica.ongoing) for replica in running if replica.ongoing),
            total_queued_requests=0.0,
            aggregated_metrics=None,
            raw_metrics={DEMAND: reports},
            capacity_adjusted_min_replicas=self._service.scaling.min_replicas,
            capacity_adjusted_max_replicas=self._service.scaling.max_replicas,
            policy_state=self._state,
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=self._now_s,
            config=self._service.scaling,
        )

    def _moment(self, arrived: float, refused: float) -> Moment:
        running = self._running
        waits_s = min((replica.waiting / IMAGES_PER_S for replica in running), default=0.0)
        reserved = len(self._replicas) + len(self._stopping)
        return Moment(self._now_s, len(running), reserved, self._target, arrived, refused, waits_s)
