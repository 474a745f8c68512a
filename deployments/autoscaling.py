"""Autoscaling by work: Serve's controller asks this policy for the number of replicas.

Each replica reports how many replicas its work would keep busy (`deployments/monitoring/demand.py`), and what Ray has
reserved for it. Their sum is the demand on the deployment; it does not depend on how many replicas share it, so the
number of replicas follows the load in one step and does not oscillate. Serve then applies `upscale_delay_s`,
`downscale_delay_s`, `min_replicas` and `max_replicas`.

After `downscale_delay_s` Serve applies the latest number alone. This policy therefore returns the largest number needed
during that delay.

Serve copies this module into its controller by value.
https://docs.ray.io/en/latest/serve/advanced-guides/advanced-autoscaling.html
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingConfig, AutoscalingContext

    from deployments.node import Node

DEMAND: Final = "darkroom_demand"
"""Name under which a replica reports its demand, in replicas."""

CPUS: Final = "darkroom_cpus"
"""Name under which a replica reports the CPUs that Ray has reserved for it."""

GPUS: Final = "darkroom_gpus"
"""Name under which a replica reports the GPUs that Ray has reserved for it."""

LATE_S: Final = 3.0
"""Seconds by which a report may be late before it is ignored."""

_RECENTLY_NEEDED: Final = "recently_needed"
"""Name of the policy's state: times and numbers of replicas, the numbers falling."""

_ROOM_WITHOUT_RESERVATIONS: Final = 1_000
"""Replicas that fit onto a node if they reserve nothing."""

_ROUNDING_ERROR: Final = 1e-9


class ByWork:
    """Policy for `autoscaling_config`: enough replicas that each of them is busy for a share of the time.

    Args:
        busy: this share, 0 to 1. The closer to 1, the longer requests wait for each other.
        hysteresis: part of `busy` that the remaining replicas have to stay below before one is stopped.
        wait_for_nodes: if true, requests replicas even when no node has room, for clusters whose autoscaler adds nodes.
            If false, requests only replicas that fit: Serve may hold back changed settings while one is pending.

    Raises:
        ValueError: a value cannot be used; the message begins with its name.
    """

    def __init__(self, busy: float = 0.75, hysteresis: float = 0.8, *, wait_for_nodes: bool = False) -> None:
        for name, share in (("busy", busy), ("hysteresis", hysteresis)):
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
                raise ValueError(f"{name}: {share!r} must be a number above 0 and at most 1")
        if not isinstance(wait_for_nodes, bool):
            raise ValueError(f"wait_for_nodes: {wait_for_nodes!r} must be true or false")
        self._busy, self._hysteresis, self._wait_for_nodes = busy, hysteresis, wait_for_nodes

    def __call__(self, context: "AutoscalingContext") -> tuple[int, dict[str, Any]]:
        """Return the number of replicas wanted, and the numbers needed recently, to be kept until the next call."""
        running, target, state = context.current_num_replicas, context.target_num_replicas, context.policy_state
        reports = _latest(context.raw_metrics or {}, (context.current_time or 0.0) - max_age_s(context.config))
        demands = reports.get(DEMAND, [])
        if not running or not demands:
            return target, state
        wanted = _whole(sum(demands) / self._busy)
        if len(demands) == running:  # else one has just started, or hangs: its share of the work is not known
            needed = _whole(sum(demands) / (self._busy * self._hysteresis))
            state = {_RECENTLY_NEEDED: _with_needed_now(needed, state.get(_RECENTLY_NEEDED, ()), context)}
        if wanted > target:
            return (wanted if self._wait_for_nodes else self._fitting(wanted, running, target, reports)), state
        recently = [needed for _, needed in state.get(_RECENTLY_NEEDED, ())] or [target]
        # Serve has a delay of its own for the last replica, `downscale_to_zero_delay_s`, which must not come on top.
        needed = recently[-1] if target == 1 else max(recently)
        return min(target, max(wanted, needed)), state

    def _fitting(self, wanted: int, running: int, target: int, reports: Mapping[str, Sequence[float]]) -> int:
        """Limit the number wanted to the room of the nodes.

        Replicas that are starting may have their resources already or not, so their room is not counted twice.
        """
        cpus, gpus = (max(reports.get(name, [0.0])) for name in (CPUS, GPUS))
        try:
            room = sum(_room(node, cpus, gpus) for node in self._free_on_nodes())
        except Exception:  # an error would end the controller's work on all applications
            logging.getLogger("ray.serve").exception("the free resources of the nodes are unknown; no replica is added")
            return target
        return min(wanted, max(target, running + room))

    def _free_on_nodes(self) -> Sequence["Node"]:
        from deployments import cluster  # in the controller only

        return cluster.free_on_nodes()


def _whole(replicas: float) -> int:
    """Round up, but not for an error of rounding: the same work in other shares must not ask for one more."""
    return math.ceil(replicas - _ROUNDING_ERROR)


def _with_needed_now(
    needed: int, recently: Sequence[tuple[float, int]], context: "AutoscalingContext"
) -> tuple[tuple[float, int], ...]:
    """Add the number needed now, with its time, to those of the last `downscale_delay_s`; smaller ones before it go."""
    now_s, kept_s = context.current_time or 0.0, context.config.downscale_delay_s if context.config else 0.0
    kept = ((at_s, number) for at_s, number in recently if now_s - at_s < kept_s and number > needed)
    return (*kept, (now_s, needed))


def max_age_s(config: "AutoscalingConfig | None") -> float:
    """Return the age in seconds above which a report is ignored: its replica hangs, or has gone.

    Serve asks a replica for a value several times in `look_back_period_s` and passes values on once in
    `metrics_interval_s`, so the latest may be nearly as old as both together.
    """
    if config is None:
        return LATE_S
    recorded_every_s = min(0.2 * config.look_back_period_s, config.metrics_interval_s)
    return config.metrics_interval_s + recorded_every_s + LATE_S


def _latest(series: Mapping[str, Mapping[Any, Sequence[Any]]], since_s: float) -> dict[str, list[float]]:
    """Return the latest values of all replicas by name, without those from before `since_s`."""
    return {
        name: [points[-1].value for points in of_replicas.values() if points and points[-1].timestamp > since_s]
        for name, of_replicas in series.items()
    }


def _room(free: "Node", cpus: float, gpus: float) -> int:
    """Return how many replicas with these reservations fit into the free resources of a node.

    A share of a GPU is on one GPU: of two free GPUs, 0.6 fits twice, not three times.
    """
    most = [_ROOM_WITHOUT_RESERVATIONS]
    if cpus:
        most.append(_times(free.cpus, cpus))
    if gpus >= 1:
        most.append(_times(free.gpus, gpus))
    elif gpus:
        whole = math.floor(free.gpus + _ROUNDING_ERROR)
        most.append(whole * _times(1.0, gpus) + _times(free.gpus - whole, gpus))
    return min(most)


def _times(have: float, need: float) -> int:
    return max(0, math.floor(have / need + _ROUNDING_ERROR))
