"""Throughput of Darkroom and its peers as a share of what this machine's cores can do. `make bench` runs it.

Every figure is a share of the limit: the rate of the bare transform with one process a core, measured before and after
each run, since the speed of a machine drifts. Server, balancer and clients share the cores. A run whose two limits
differ by more than a tenth is repeated.
"""

import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, Protocol

from benchmarks import charts
from benchmarks.contestants import Ask, Contestant, contestants
from benchmarks.limit import Limit
from benchmarks.work import Work
from harness import table
from harness.circumstances import circumstances
from harness.command import RESULTS, Facts, parser_of, run, say, write
from harness.figures import svg

LIMIT_MEASURED_FOR_S: Final = 0.7
MAX_LIMIT_CHANGE_SHARE: Final = 0.1
MAX_REPEATED_RUNS: Final = 2
"""Limit on repeated runs of a row: a busy machine has to be measured too; its spread then shows it."""

HEADER: Final = ("what", "load", "images/s", "of the limit", "p50 ms", "p99 ms", "clients' cores")


class Limited(Protocol):
    """Measures the current speed of the machine; implemented by `Limit`."""

    def per_s(self, images: Sequence[bytes], *, for_s: float, clients: int) -> float:
        """Images a second."""


def measured(contestant: Contestant, limit: Limited, rounds: int) -> Iterator[Facts]:
    """Start one contestant; yield a record for each of its loads."""
    with contestant.started() as ask:
        for work in contestant.works:
            ask(replace(work, for_s=work.warm_up_s))
            runs = list(_runs(ask, work, limit, rounds))
            yield {"what": contestant.name, "load": work.title, **_medians(runs), "runs": runs}


def _runs(ask: Ask, work: Work, limit: Limited, rounds: int) -> Iterator[Facts]:
    """Measure limits and runs alternately; each run is a share of the limits before and after it."""
    again = MAX_REPEATED_RUNS
    before = limit.per_s(work.images, for_s=LIMIT_MEASURED_FOR_S, clients=work.clients)
    while rounds:
        facts = ask(work)
        after = limit.per_s(work.images, for_s=LIMIT_MEASURED_FOR_S, clients=work.clients)
        if abs(before - after) <= MAX_LIMIT_CHANGE_SHARE * max(before, after) or not again:
            share = facts["per_s"] / statistics.mean((before, after))
            yield {**facts, "limit_before_per_s": before, "limit_after_per_s": after, "of_limit": share}
            rounds -= 1
        else:
            again -= 1
        before = after


def _medians(runs: Sequence[Facts]) -> Facts:
    """Compute the medians of several runs, and the spread of their shares."""
    names = [name for name in ("per_s", "of_limit", "p50_ms", "p99_ms", "clients_cores") if name in runs[0]]
    shares = [run["of_limit"] for run in runs]
    return {
        **{name: statistics.median(run[name] for run in runs) for name in names},
        "least_of_limit": min(shares),
        "most_of_limit": max(shares),
    }


def rows(records: Sequence[Facts]) -> list[list[str]]:
    """Return the table's rows."""

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


def put(record: Facts, records: list[Facts]) -> None:
    """Add a record, in the place of an earlier one of the same contestant and load."""
    for at, earlier in enumerate(records):
        if (earlier["what"], earlier["load"]) == (record["what"], record["load"]):
            records[at] = record
            return
    records.append(record)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = parser_of("benchmarks.bench", __doc__)
    parser.add_argument("--rounds", type=int, help="runs of each row (2, with --full 3)")
    parser.add_argument("--full", action="store_true", help="also the other peers, what lies between, and mixed sizes")
    parser.add_argument("--only", help="only what has this in its name")
    again = "measure this contestant again, in the results that are there; may be given several times"
    parser.add_argument("--again", metavar="NAME", action="append", default=[], help=again)
    options = parser.parse_args(arguments)
    about, began_at, records = circumstances("benchmarks.bench", arguments), time.monotonic(), list[Facts]()
    rounds = options.rounds or (3 if options.full else 2)
    results = RESULTS / ("bench-full" if options.full else "bench")
    if options.again:
        about, *records = map(json.loads, results.with_suffix(".json").read_text().splitlines())
    with Limit() as limit:
        for contestant in contestants(full=options.full):
            if options.only and options.only not in contestant.name:
                continue
            if options.again and contestant.name not in options.again:
                continue
            say(contestant.name)
            for record in measured(contestant, limit, rounds):
                put(record, records)
                say(f"    {json.dumps({name: value for name, value in record.items() if name != 'runs'})}")
                write(results, [about, *records], table.markdown(HEADER, rows(records)))
                results.with_suffix(".svg").write_text(svg(charts.shares(records)))
    sys.stdout.write(table.text(HEADER, rows(records)))
    say(f"{time.monotonic() - began_at:.0f} s")
    return 0


if __name__ == "__main__":
    run(main)
