"""How near everything comes to what the machine's cores can do, side by side. `make bench` runs it.

Every figure is a share of the limit: what the bare transform does in a process a core, measured before and after it,
since the speed of a machine drifts. Server, balancer and clients share the cores. A run whose limits differ by more
than a tenth is made again.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

from benchmarks import alone, bars, table
from benchmarks.alone import Rate
from benchmarks.command import RESULTS, circumstances, run, say, write
from benchmarks.kinds import BENTOML, LITSERVE, LOADER_A_BATCH, MOSEC, RAY_SERVE, Document, darkroom
from benchmarks.limit import Limit
from benchmarks.servers import Kind, Server, running
from benchmarks.wire import Load, closed_loop
from benchmarks.work import PHONE, SMALL, SMALL_MANY, Work

LIMIT_FOR_S: Final = 1.0
STEADY: Final = 0.1
AGAIN: Final = 2
"""Runs of a row that may be made again: a machine that never rests has to be measured too, and the spread says so."""

HEADER: Final = ("what", "load", "images/s", "of the limit", "p50 ms", "p99 ms", "clients' cores")
NO_HAPROXY: Final = {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"}
"""Wins over serve.env: Serve's own proxy in front, as without that file."""

STAND_IN: Final = "stand-in"
"""Marks what has the sleeping device."""

Facts = dict[str, Any]


Ask = Callable[[Work], Facts]
"""One run: a load -> what it has shown."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One of those compared.

    Args:
        name: in the table.
        works: that it is given.
        started: a context in which it runs.
    """

    name: str
    works: Sequence[Work]
    started: Callable[[], AbstractContextManager[Ask]]


def served(kind: Kind, *works: Work) -> Contestant:
    """A server."""
    return Contestant(kind.name, works, partial(_serve, kind))


@contextmanager
def _serve(kind: Kind) -> Iterator[Ask]:
    with running(kind, say) as server:
        yield partial(_asked, server)


def _asked(server: Server, work: Work) -> Facts:
    forms = [server.kind.wrap(image) for image in work.images]
    if work.together > 1:
        if server.kind.many is None:
            raise ValueError(f"{server.name} takes one image a request")
        batches = [work.images[at : at + work.together] for at in range(0, len(work.images), work.together)]
        whole = [list(batch) + list(work.images[: work.together - len(batch)]) for batch in batches]
        forms = [server.kind.many(batch) for batch in whole]
    load = closed_loop(server.target, forms, clients=work.clients, warm_up_s=work.warm_up_s, for_s=work.for_s)
    return _of(load, work)


def _of(load: Load, work: Work) -> Facts:
    if load.others:
        say(f"    not predicted: {dict(load.others)}")
    took_ms = [1000 * took_s for took_s in load.took_s] or [0.0]
    return {
        "per_s": load.per_s * work.together,
        "p50_ms": statistics.median(took_ms),
        "p99_ms": statistics.quantiles(took_ms, n=100)[98] if len(took_ms) > 1 else took_ms[0],
        "clients_cores": load.clients_cores,
        "lost": dict(load.others),
    }


def by_itself(name: str, context: Callable[[], AbstractContextManager[Rate]], *works: Work) -> Contestant:
    """What runs in this process."""

    @contextmanager
    def started() -> Iterator[Ask]:
        with context() as rate:
            yield lambda work: {"per_s": rate(work.images, work.for_s)}

    return Contestant(name, works, started)


def _with_stand_in(application: Document) -> None:
    """A replica whose workers have all the cores, as beside a GPU; nobody is refused, as nobody is at the peers."""
    application["import_path"] = "benchmarks.standin:build_app"
    application["args"]["pipeline"].update(device="cpu", workers=len(os.sched_getaffinity(0)), threads=1)
    _refusing_nobody(application)


def _refusing_nobody(application: Document) -> None:
    (deployment,) = application["deployments"]
    deployment["user_config"]["max_wait_s"] = 60.0
    deployment["autoscaling_config"]["max_replicas"] = 1


def _exact(application: Document) -> None:
    """The pixels of torchvision's own transform."""
    _with_stand_in(application)
    application["args"]["pipeline"]["decode"] = "exact"


def _variant(kind: Kind, name: str, **environment: str) -> Kind:
    return replace(kind, name=name or kind.name, environment={**kind.environment, **environment})


def contestants(*, full: bool) -> list[Contestant]:
    """All of them in the order of the table: with the stand-in from what one writes first to all that Darkroom does.

    Args:
        full: also what lies between, one technique a row.
    """
    asleep, ours = {"MODEL": "stand-in"}, {"DECODE": "darkroom"}
    each = (SMALL, PHONE)

    def peer(kind: Kind, name: str, **environment: str) -> Contestant:
        return served(_variant(kind, f"{name}, {STAND_IN}", **asleep, **environment), *each)

    between = [
        served(_variant(darkroom(f"Darkroom, exact, no HAProxy, {STAND_IN}", _exact), "", **NO_HAPROXY), *each),
        served(darkroom(f"Darkroom, exact, {STAND_IN}", _exact), *each),
    ]
    return [
        by_itself(f"a loop, {STAND_IN}", alone.loop, *each),
        peer(LOADER_A_BATCH, LOADER_A_BATCH.name),
        peer(RAY_SERVE, RAY_SERVE.name),
        peer(BENTOML, BENTOML.name),
        peer(LITSERVE, LITSERVE.name),
        peer(MOSEC, MOSEC.name),
        peer(LITSERVE, f"{LITSERVE.name}, our decode", **ours),
        peer(MOSEC, f"{MOSEC.name}, our decode", **ours),
        *(between if full else []),
        served(darkroom(f"Darkroom, {STAND_IN}", _with_stand_in), SMALL_MANY, *each),
        by_itself(f"pipeline alone, {STAND_IN}", alone.pipeline, *each),
        served(RAY_SERVE, *each),
        served(BENTOML, *each),
        served(LITSERVE, *each),
        served(MOSEC, *each),
        served(darkroom("Darkroom", _refusing_nobody), *each),
    ]


class Limited(Protocol):
    """What says how fast the machine is just now: `Limit`."""

    def per_s(self, images: Sequence[bytes], *, for_s: float) -> float:
        """Images a second."""


def measured(contestant: Contestant, limit: Limited, rounds: int) -> Iterator[Facts]:
    """Starts one contestant; yields a record for each of its works."""
    with contestant.started() as ask:
        for work in contestant.works:
            ask(work)  # warms it up
            runs = list(_runs(ask, work, limit, rounds))
            yield {"what": contestant.name, "load": work.title, **_middle(runs), "runs": runs}


def _runs(ask: Ask, work: Work, limit: Limited, rounds: int) -> Iterator[Facts]:
    """Limit, run, limit, run, limit: what lies between two of them is a share of both."""
    again = AGAIN
    before = limit.per_s(work.images, for_s=LIMIT_FOR_S)
    while rounds:
        facts = ask(work)
        after = limit.per_s(work.images, for_s=LIMIT_FOR_S)
        if abs(before - after) <= STEADY * max(before, after) or not again:
            share = facts["per_s"] / statistics.mean((before, after))
            yield {**facts, "limit_before_per_s": before, "limit_after_per_s": after, "of_limit": share}
            rounds -= 1
        else:
            again -= 1
        before = after


def _middle(runs: Sequence[Facts]) -> Facts:
    """Medians, and the spread of the share."""
    names = [name for name in ("per_s", "of_limit", "p50_ms", "p99_ms", "clients_cores") if name in runs[0]]
    shares = [run["of_limit"] for run in runs]
    return {
        **{name: statistics.median(run[name] for run in runs) for name in names},
        "least_of_limit": min(shares),
        "most_of_limit": max(shares),
    }


def rows(records: Sequence[Facts]) -> list[list[str]]:
    """The table's rows."""

    def cell(record: Facts, name: str, form: str) -> str:
        return format(record[name], form) if name in record else ""

    return [
        [
            record["what"],
            record["load"],
            f"{record['per_s']:.1f}",
            f"{record['of_limit']:.2f} ({record['least_of_limit']:.2f} to {record['most_of_limit']:.2f})",
            cell(record, "p50_ms", ".0f"),
            cell(record, "p99_ms", ".0f"),
            cell(record, "clients_cores", ".2f"),
        ]
        for record in records
    ]


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="runs of each row (3)")
    parser.add_argument("--full", action="store_true", help="also what lies between, one technique a row")
    parser.add_argument("--only", help="only what has this in its name")
    options = parser.parse_args(arguments)
    about, began_at, records = circumstances("benchmarks.bench", arguments), time.monotonic(), list[Facts]()
    with Limit() as limit:
        for contestant in contestants(full=options.full):
            if options.only and options.only not in contestant.name:
                continue
            say(contestant.name)
            for record in measured(contestant, limit, options.rounds):
                records.append(record)
                say(f"    {json.dumps({name: value for name, value in record.items() if name != 'runs'})}")
                write(RESULTS / "bench", [about, *records], table.markdown(HEADER, rows(records)))
                (RESULTS / "bench.svg").write_text(bars.svg(records))
    sys.stdout.write(table.text(HEADER, rows(records)))
    say(f"{time.monotonic() - began_at:.0f} s")
    return 0


if __name__ == "__main__":
    run(main)
