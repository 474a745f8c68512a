"""Measures how throughput grows with replicas, and what they cost the rest. `python -m benchmarks.replica_growth`.

Replicas with the slow stand-in as their device (25 images/s each) get small photographs, so that four and HAProxy need
less than two cores: what is missing to four times the throughput of one is the loss of balancer and controller. Each
number of replicas is measured behind HAProxy, and behind Serve's own proxy, which takes all that is left of two cores.
Up to 50 replicas that only read a body then show what the controller and the balancer need for their number alone.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import psutil

from benchmarks.standin import SLOW_IMAGE_S
from benchmarks.work import SMALL
from harness import table
from harness.circumstances import circumstances
from harness.command import RESULTS, Facts, parser_of, run, say, write
from harness.load import closed_loop
from harness.local_service import Document, LocalService, local_service, shipped_config
from harness.roles import FORKSERVER, HAPROXY, REPLICA, WORKER, roles_of
from harness.target import image_body

REPLICAS: Final = (1, 2, 4)
MANY_REPLICAS: Final = (1, 10, 50)
CLIENTS_PER_REPLICA: Final = 16
MANY_CLIENTS: Final = 64
TURNS: Final = 3
WARM_UP_S: Final = 2.0
STARTS_WITHIN_S: Final = 600.0

BALANCERS: Final = {
    "HAProxy": {},
    "Serve's proxy": {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"},
}
"""Environment variables of each balancer."""

_PARTS: Final = {
    **dict.fromkeys((REPLICA, WORKER, FORKSERVER), "replicas"),
    **dict.fromkeys((HAPROXY, "fallback proxy"), "balancer"),
    "controller": "controller",
}
"""Columns of processor time by role; all other roles are the rest of Ray."""

COLUMNS: Final = ("replicas", "balancer", "controller", "rest of Ray")
HEADER: Final = (
    *("replicas", "balancer", "requests/s", "of the devices' limit", "times one replica's", "refused", "lost"),
    *(f"{part}, cores" for part in COLUMNS),
    "clients, cores",
)


_FORMS: Final = [image_body(image) for image in SMALL.images]


def _of_replicas(document: Document, number: int) -> Document:
    (deployment,) = document["applications"][0]["deployments"]
    deployment["autoscaling_config"].update(min_replicas=number, max_replicas=number)
    return document


def stand_in_config() -> Document:
    """Return the shipped configuration with the slow stand-in, and replicas that reserve nothing."""
    document = shipped_config()
    (application,) = document["applications"]
    application["import_path"] = "benchmarks.standin:build_slow_app"
    application["args"]["num_cpus"] = 0
    application["args"]["pipeline"].update(decode_workers=1, spare_workers=0, concurrent_batches=1)
    return document


def tiny_config() -> Document:
    """Return a configuration whose replicas read a body and forget it, and reserve nothing."""
    document = shipped_config()
    (application,) = document["applications"]
    application.update(import_path="benchmarks.echo:build_app", args={})
    (deployment,) = application["deployments"]
    deployment.update(name="Echo", ray_actor_options={"num_cpus": 0})
    del deployment["user_config"]
    return document


def measured(service: LocalService, clients: int, for_s: float) -> Facts:
    """Measure a load a few times, with the processor time of each part of the service; medians."""
    turns = [_turn(service, clients, for_s) for _ in range(TURNS)]
    return {
        "per_s": statistics.median(turn["per_s"] for turn in turns),
        "refused": sum(turn["refused"] for turn in turns),
        "lost": sum(turn["lost"] for turn in turns),
        "cores": {part: statistics.median(turn["cores"][part] for turn in turns) for part in (*COLUMNS, "clients")},
    }


def _turn(service: LocalService, clients: int, for_s: float) -> Facts:
    before, began_at = _processor_s(service), time.monotonic()
    load = closed_loop(service.target, _FORMS, clients=clients, warm_up_s=WARM_UP_S, for_s=for_s)
    after, took_s = _processor_s(service), time.monotonic() - began_at
    cores = {part: (after[part] - before[part]) / took_s for part in COLUMNS} | {"clients": load.clients_cores}
    lost = sum(load.others.values()) - load.refused
    return {"per_s": load.per_s, "refused": load.refused, "lost": lost, "cores": cores}


def _processor_s(service: LocalService) -> dict[str, float]:
    """Seconds of processor time that each part has used so far."""
    processes, used_s = service.processes(), dict.fromkeys(COLUMNS, 0.0)
    roles = roles_of(processes)
    for process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            used_s[_PARTS.get(roles.get(process.pid, ""), "rest of Ray")] += times.user + times.system
    return used_s


def growth(
    document: Document,
    numbers: Sequence[int],
    balancer: str,
    for_s: float,
    *,
    clients: Callable[[int], int],
    limit_per_s: float | None = None,
) -> Iterator[Facts]:
    """Yield a record for each number of replicas, from one on; `limit_per_s` is the rate of one replica's device."""
    alone_per_s = 0.0
    with local_service(_of_replicas(document, numbers[0]), say, **BALANCERS[balancer]) as service:
        for number in numbers:
            service.deploy(_of_replicas(service.document, number))
            service.wait_for_replicas(number, STARTS_WITHIN_S)
            record = measured(service, clients(number), for_s)
            alone_per_s = alone_per_s or record["per_s"]
            yield {
                "replicas": number,
                "balancer": balancer,
                "of_limit": record["per_s"] / (number * limit_per_s) if limit_per_s else None,
                "times_one": record["per_s"] / alone_per_s,
                **record,
            }


def row(record: Facts) -> list[str]:
    """Format a row of a table."""
    return [
        str(record["replicas"]),
        str(record["balancer"]),
        f"{record['per_s']:.1f}",
        table.NOTHING if record["of_limit"] is None else f"{record['of_limit']:.2f}",
        f"{record['times_one']:.2f}",
        str(record["refused"]),
        str(record["lost"]),
        *(f"{cores:.2f}" for cores in record["cores"].values()),
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = parser_of("benchmarks.replica_growth", __doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="duration of one measurement; 8 by default")
    for_s, records = parser.parse_args(arguments).seconds, list[Facts]()
    about = circumstances("benchmarks.replica_growth", arguments)

    def note(found: Iterator[Facts]) -> None:
        for record in found:
            records.append(record)
            say("  ".join(row(record)))

    for balancer in BALANCERS:
        limit_per_s, clients = 1 / SLOW_IMAGE_S, CLIENTS_PER_REPLICA.__mul__
        note(growth(stand_in_config(), REPLICAS, balancer, for_s, clients=clients, limit_per_s=limit_per_s))
    of_stand_ins = len(records)
    for balancer in BALANCERS:
        note(growth(tiny_config(), MANY_REPLICAS, balancer, for_s, clients=lambda _: MANY_CLIENTS))
    tables = [[row(record) for record in part] for part in (records[:of_stand_ins], records[of_stand_ins:])]
    markdown = [table.markdown(HEADER, rows) for rows in tables]
    titles = ("Complete replicas, with the slow stand-in", "Replicas that only read a body")
    page = "\n".join(f"{title}\n\n{rows}" for title, rows in zip(titles, markdown, strict=True))
    write(RESULTS / "replica_growth", [about, *records], page)
    for rows in tables:
        say(table.text(HEADER, rows))
    return 0


if __name__ == "__main__":
    run(main)
