"""Autoscaling by work beside Serve's own policy, by requests, in a simulation. `python -m benchmarks.scaling_policies`.

A simulated replica answers 100 images/s and takes 8 s to start; the settings are those of serve_config.yaml, with up to
8 replicas. Both policies are the real ones, and Serve's own code applies delays and bounds to them.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy
from ray.serve.config import AutoscalingConfig

from deployments.autoscaling import ByWork
from harness.circumstances import circumstances
from harness.command import Facts, parser_of, publish, run
from harness.local_service import shipped_config
from harness.scaling_simulation import (
    IMAGES_PER_S,
    STEP_S,
    Arrivals,
    Moment,
    Policy,
    ScalingSimulation,
    SimulatedService,
)

MAX_REPLICAS: Final = 8
FOR_S: Final = 300.0
CHANGES_AT_S: Final = 30.0
"""Time at which a load changes; before it a few images a second arrive."""

QUIET_PER_S: Final = 5.0
TARGET_ONGOING_REQUESTS: Final = 8

HEADER: Final = (
    *("load", "images a request", "policy", "enough replicas after s", "most replicas", "changes of the number"),
    *("refused", "mean wait, s", "replica-seconds"),
)


@dataclass(frozen=True, slots=True)
class ScalingLoad:
    """A load over time.

    Args:
        name: name in the table.
        arrivals: images that arrive in a step.
        enough: replicas that can answer all images from `CHANGES_AT_S` on; None if that changes all the time.
        images_per_request: images in each request.
    """

    name: str
    arrivals: Arrivals
    enough: int | None = None
    images_per_request: int = 1


def _steady(per_s: float) -> Arrivals:
    return lambda at_s, _: STEP_S * (per_s if at_s >= CHANGES_AT_S else QUIET_PER_S)


def _ramp(per_s: float) -> Arrivals:
    grows_for_s = 120.0
    return lambda at_s, _: STEP_S * max(QUIET_PER_S, per_s * min(1.0, (at_s - CHANGES_AT_S) / grows_for_s))


def _burst(per_s: float, for_s: float) -> Arrivals:
    return lambda at_s, _: STEP_S * (per_s if 0 <= at_s - CHANGES_AT_S < for_s else QUIET_PER_S)


def _intermittent(per_s: float, for_s: float, every_s: float) -> Arrivals:
    return lambda at_s, _: (
        STEP_S * (per_s if at_s >= CHANGES_AT_S and (at_s - CHANGES_AT_S) % every_s < for_s else QUIET_PER_S)
    )


def _clients(number: int) -> Arrivals:
    """Return the arrivals of clients that send the next image once they have their answer."""
    return lambda at_s, answered: (
        0.0 if at_s < CHANGES_AT_S else float(number) if at_s < CHANGES_AT_S + STEP_S else answered
    )


LOADS: Final = (
    ScalingLoad("step to 250 images/s", _steady(250), 3),
    ScalingLoad("step to 250 images/s", _steady(250), 3, images_per_request=32),
    ScalingLoad("step to 700 images/s", _steady(700), 7),
    ScalingLoad("ramp to 500 images/s in 120 s", _ramp(500)),
    ScalingLoad("ramp to 500 images/s in 120 s", _ramp(500), images_per_request=32),
    ScalingLoad("a burst of 500 images/s for 3 s", _burst(500, 3)),
    ScalingLoad("300 images/s for 2 s, every 10 s", _intermittent(300, 2, 10)),
    ScalingLoad("1,000 images/s for 5 s, every 20 s", _intermittent(1000, 5, 20)),
    ScalingLoad("64 clients, each with one image", _clients(64)),
)


def policies() -> dict[str, Policy]:
    """Return both policies by name."""
    return {
        "by work": ByWork(wait_for_nodes=True),  # there is room enough
        "Serve's own": replica_queue_length_autoscaling_policy,
    }


def scaling_config() -> AutoscalingConfig:
    """Read the settings of serve_config.yaml, without its policy."""
    settings = shipped_config()["applications"][0]["deployments"][0]["autoscaling_config"]
    own = {"max_replicas": MAX_REPLICAS, "target_ongoing_requests": TARGET_ONGOING_REQUESTS}
    return AutoscalingConfig(**{name: value for name, value in settings.items() if name != "policy"} | own)


def figures(load: ScalingLoad, moments: Sequence[Moment]) -> Facts:
    """Sum up a run."""
    after = [moment for moment in moments if moment.at_s >= CHANGES_AT_S]
    enough = next((moment.at_s for moment in after if load.enough and moment.running >= load.enough), None)
    targets = [moment.target for moment in moments]
    return {
        "enough_after_s": None if enough is None else enough - CHANGES_AT_S,
        "most": max(moment.running for moment in after),
        "changes": sum(one != other for one, other in pairwise(targets)),
        "refused": sum(moment.refused for moment in after) / sum(moment.arrived for moment in after),
        "mean_wait_s": statistics.mean(moment.waits_s for moment in after),
        "replica_s": STEP_S * sum(moment.reserved for moment in after),
        "least_replica_s": sum(moment.arrived for moment in after) / IMAGES_PER_S,
    }


def row(record: Facts) -> list[str]:
    """Format a row of the table."""
    return [
        record["load"],
        str(record["images_per_request"]),
        record["policy"],
        "-" if record["enough_after_s"] is None else f"{record['enough_after_s']:.1f}",
        str(record["most"]),
        str(record["changes"]),
        f"{record['refused']:.1%}",
        f"{record['mean_wait_s']:.2f}",
        f"{record['replica_s']:.0f}",
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser_of("benchmarks.scaling_policies", __doc__).parse_args(arguments)
    about, records = circumstances("benchmarks.scaling_policies", arguments), list[Facts]()
    for load in LOADS:
        for name, policy in policies().items():
            service = SimulatedService(scaling_config(), load.images_per_request)
            moments = list(ScalingSimulation(policy, service).run(load.arrivals, FOR_S))
            about_load = {"load": load.name, "images_per_request": load.images_per_request, "policy": name}
            records.append({**about_load, **figures(load, moments)})
    publish("scaling_policies", about, records, HEADER, [row(record) for record in records])
    return 0


if __name__ == "__main__":
    run(main)
