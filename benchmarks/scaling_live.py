"""Measures both policies of autoscaling on a running service. `python -m benchmarks.scaling_live`.

The service is the shipped one with up to four replicas, each with the slow stand-in as its device (25 images/s), so
that two cores can hold them all; `benchmarks.scaling_policies` simulates more replicas and more loads. Requests come at
random times, whether or not earlier ones have been answered. The settings are those of serve_config.yaml, but with a
shorter `downscale_delay_s`.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

from benchmarks.replica_growth import stand_in_config
from benchmarks.scaling_policies import TARGET_ONGOING_REQUESTS
from benchmarks.standin import SLOW_IMAGE_S
from benchmarks.work import SMALL
from deployments.local.serve_api import ServeApiError
from harness import table
from harness.circumstances import circumstances
from harness.command import Facts, parser_of, publish, run, say
from harness.load import arrivals, at_times
from harness.local_service import Document, LocalService, ServiceFailed, local_service
from harness.target import form_body

MAX_REPLICAS: Final = 4
DOWNSCALE_DELAY_S: Final = 10.0
QUIET_PER_S: Final = 2.0
QUIET_FOR_S: Final = 5.0
"""Seconds before a load changes, in which a few images a second arrive."""

FOR_S: Final = 60.0
"""Seconds of a load after its change."""

ALONE_WITHIN_S: Final = 180.0
_LOOKS_EVERY_S: Final = 0.5
_SEED: Final = 5

HEADER: Final = (
    *(
        "load",
        "images a request",
        "policy",
        "enough started after s",
        "enough ready after s",
        "most replicas",
        "changes of the number",
    ),
    *("refused", "otherwise lost", "p50 ms", "p99 ms", "replica-seconds", "of the least"),
)


@dataclass(frozen=True, slots=True)
class LiveLoad:
    """A load over time.

    Args:
        name: name in the table.
        most_per_s: highest rate, in images a second.
        per_s: images a second, by the seconds since the change.
        enough: replicas that can answer all images; None if that changes all the time.
        images_per_request: images in each request.
    """

    name: str
    most_per_s: float
    per_s: Callable[[float], float]
    enough: int | None = None
    images_per_request: int = 1

    def due_s(self) -> Iterator[float]:
        """Yield the seconds at which requests are due, at random times: a share of those of the highest rate."""
        chance = random.Random(_SEED)
        for at_s in arrivals(self.most_per_s / self.images_per_request, QUIET_FOR_S + FOR_S, chance):
            now_per_s = QUIET_PER_S if at_s < QUIET_FOR_S else max(QUIET_PER_S, self.per_s(at_s - QUIET_FOR_S))
            if chance.random() < now_per_s / self.most_per_s:
                yield at_s


LOADS: Final = (
    LiveLoad("step to 60 images/s", 60.0, lambda _: 60.0, 3),
    LiveLoad("step to 60 images/s", 60.0, lambda _: 60.0, 3, images_per_request=16),
    LiveLoad("ramp to 80 images/s in 40 s", 80.0, lambda at_s: min(80.0, 2.0 * at_s)),
    LiveLoad("a burst of 150 images/s for 3 s", 150.0, lambda at_s: 150.0 if at_s < 3 else 0.0),
    LiveLoad("75 images/s for 2 s, every 10 s", 75.0, lambda at_s: 75.0 if at_s % 10 < 2 else 0.0),
)


@dataclass(frozen=True, slots=True)
class CountedReplicas:
    """Replicas of a service at one moment."""

    at_s: float  # since counting began
    running: int
    started: int  # that run or are to run, without those that are being stopped
    present: int  # all that have a process


class ReplicaCount:
    """Counts the replicas of a service while a block runs.

    Attributes:
        seen: the counts, in order.
    """

    def __init__(self, service: LocalService) -> None:
        self.seen: list[CountedReplicas] = []
        self._service, self._ended = service, threading.Event()
        self._thread = threading.Thread(target=self._look, name="replica-count")

    def _look(self) -> None:
        began_at = time.monotonic()
        while not self._ended.wait(_LOOKS_EVERY_S):
            with suppress(ServeApiError):
                states = self._service.replica_states()
                started = len(states) - states.count("STOPPING")
                at_s = time.monotonic() - began_at
                self.seen.append(CountedReplicas(at_s, states.count("RUNNING"), started, len(states)))

    @property
    def replica_s(self) -> float:
        """Seconds of all replicas together; each count holds until the next one."""
        return sum(now.present * (later.at_s - now.at_s) for now, later in pairwise(self.seen))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def policies() -> dict[str, Document]:
    """Return the settings of both policies by name."""
    (deployment,) = stand_in_config()["applications"][0]["deployments"]
    shared = deployment["autoscaling_config"] | {"max_replicas": MAX_REPLICAS, "downscale_delay_s": DOWNSCALE_DELAY_S}
    own = {name: value for name, value in shared.items() if name != "policy"}
    return {"by work": shared, "Serve's own": own | {"target_ongoing_requests": TARGET_ONGOING_REQUESTS}}


def measured(service: LocalService, load: LiveLoad) -> Facts:
    """Measure one load, from one replica on."""
    _wait_for_one_replica(service)
    form = form_body(list(SMALL.images[: load.images_per_request]))
    with ReplicaCount(service) as count:
        answered = at_times(service.target, [form], load.due_s(), QUIET_FOR_S + FOR_S)
    after = [counted for counted in count.seen if counted.at_s >= QUIET_FOR_S]
    enough = load.enough or MAX_REPLICAS + 1
    started_at_s = next((counted.at_s for counted in after if counted.started >= enough), None)
    ready_at_s = next((counted.at_s for counted in after if counted.running >= enough), None)
    images = load.images_per_request * answered.sent
    return {
        "enough_started_after_s": None if started_at_s is None else started_at_s - QUIET_FOR_S,
        "enough_ready_after_s": None if ready_at_s is None else ready_at_s - QUIET_FOR_S,
        "most": max(counted.running for counted in after),
        "changes": sum(one.started != other.started for one, other in pairwise(count.seen)),
        "refused": answered.refused / answered.sent,
        "lost": sum(answered.others.values()) - answered.refused,
        "p50_ms": 1e3 * answered.quantile_s(0.5),
        "p99_ms": 1e3 * answered.quantile_s(0.99),
        "replica_s": count.replica_s,
        "least_replica_s": images * SLOW_IMAGE_S,
    }


def _wait_for_one_replica(service: LocalService) -> None:
    """Wait until one replica runs and no other is starting or stopping."""
    deadline = time.monotonic() + ALONE_WITHIN_S
    states = list[str]()
    while states != ["RUNNING"]:
        with suppress(ServeApiError):
            states = service.replica_states()
        if time.monotonic() > deadline:
            raise ServiceFailed(f"the load before is over for {ALONE_WITHIN_S:.0f} s, and replicas are {states}")
        time.sleep(_LOOKS_EVERY_S)


def row(record: Facts) -> list[str]:
    """Format a row of the table."""
    after_s = record["enough_started_after_s"], record["enough_ready_after_s"]
    return [
        record["load"],
        str(record["images_per_request"]),
        record["policy"],
        *(table.NOTHING if each is None else f"{each:.1f}" for each in after_s),
        str(record["most"]),
        str(record["changes"]),
        f"{record['refused']:.1%}",
        str(record["lost"]),
        f"{record['p50_ms']:.0f}",
        f"{record['p99_ms']:.0f}",
        f"{record['replica_s']:.0f}",
        f"{record['replica_s'] / record['least_replica_s']:.1f}",
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser_of("benchmarks.scaling_live", __doc__).parse_args(arguments)
    about, records = circumstances("benchmarks.scaling_live", arguments), list[Facts]()
    with local_service(stand_in_config(), say) as service:
        (deployment,) = service.document["applications"][0]["deployments"]
        for name, settings in policies().items():
            deployment["autoscaling_config"] = settings
            service.deploy(service.document)
            for number, load in enumerate(LOADS):
                about_load = {"number": number, "load": load.name, "images_per_request": load.images_per_request}
                records.append({**about_load, "policy": name, **measured(service, load)})
                say("  ".join(row(records[-1])))
    records.sort(key=lambda record: int(record["number"]))
    publish("scaling_live", about, records, HEADER, [row(record) for record in records])
    return 0


if __name__ == "__main__":
    run(main)
