"""How long answers take, and what is left of the peak, as more and more comes. `make latency` runs it.

Round after round measures one client alone, the peak (clients that wait for their answers), requests that come at
shares of it, and the peak again: the speed of a machine drifts, and a share is of its own round. They come by chance
(Poisson) and evenly; evenly once more by k6, by which the clients are checked. Server, balancer and clients share the
cores, and no request waits longer than 0.25 s. Beside them stands what a perfect queue would do with the same
arrivals: what is late there is late by chance.
"""

import argparse
import heapq
import itertools
import json
import os
import random
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from benchmarks import k6, table
from benchmarks.command import RESULTS, circumstances, run, say, write
from benchmarks.kinds import HASTY
from benchmarks.scenarios import quantile
from benchmarks.servers import Server, running
from benchmarks.work import SMALL
from harness.load import Load, arrivals, closed_loop, open_loop

CLIENTS: Final = 8
SHARES: Final = (0.2, 0.5, 0.8, 0.95, 2.0)
FOR_S: Final = 5.0
HEADER: Final = (
    "load",
    "predictions/s",
    "of the peak",
    "p50 ms",
    "p99 ms",
    "p99 / p50 alone",
    "refused",
    "otherwise lost",
)

Facts = dict[str, Any]


def one_round(server: Server, seed: int) -> list[Facts]:
    """A record for each load, in the table's order."""
    forms = [server.kind.wrap(image) for image in SMALL.images]

    def waiting(clients: int) -> Load:
        return closed_loop(server.target, forms, clients=clients, warm_up_s=1.0, for_s=FOR_S)

    def coming(rate: float) -> Iterator[tuple[str, Load]]:
        for manner, chance in (("by chance", random.Random(seed)), ("evenly", None)):
            yield manner, open_loop(server.target, forms, rate=rate, for_s=FOR_S, chance=chance)
        yield "evenly, by k6", k6.open_loop(server.target, forms, rate=rate, for_s=FOR_S)

    alone, before = waiting(1), waiting(CLIENTS)
    open_loads = [
        (f"{share:.0%} of the peak, {manner}", load)
        for share in SHARES
        for manner, load in coming(share * before.per_s)
    ]
    after = waiting(CLIENTS)
    peak_per_s, alone_s = (before.per_s + after.per_s) / 2, statistics.median(alone.took_s)
    perfect = [
        (
            f"{share:.0%} of the peak, by chance, a perfect queue",
            perfect_queue(arrivals(share * peak_per_s, FOR_S, random.Random(seed)), peak_per_s),
        )
        for share in SHARES
        if share < 1  # above, it depends on who is refused
    ]
    loads = [("one client", alone), (f"{CLIENTS} clients", before), *open_loads, ("the peak again", after), *perfect]
    return [{"load": title, **_of(load, peak_per_s, alone_s)} for title, load in loads]


def perfect_queue(due_s: Iterable[float], peak_per_s: float) -> Load:
    """What a service would do that has that peak, all of it, from one image on each core.

    Every image takes the same time, the first to come is the first to be served, and nothing else takes any time.

    Args:
        due_s: when requests come, rising.
        peak_per_s: images a second, of all cores together.
    """
    cores = len(os.sched_getaffinity(0))
    load, free_at = Load(FOR_S), [0.0] * cores
    for due_at in due_s:
        done_at = max(due_at, heapq.heappop(free_at)) + cores / peak_per_s
        heapq.heappush(free_at, done_at)
        load.sent += 1
        load.took_s.append(done_at - due_at)
    return load


def _of(load: Load, peak_per_s: float, alone_s: float) -> Facts:
    took_s = sorted(load.took_s)
    return {
        "sent": load.sent,
        "good_per_s": load.per_s,
        "of_peak": load.per_s / peak_per_s,
        "p50_ms": 1000 * quantile(took_s, 0.5),
        "p99_ms": 1000 * quantile(took_s, 0.99),
        "p99_of_p50_alone": quantile(took_s, 0.99) / alone_s,
        "refused": load.refused,
        "lost": sum(load.others.values()) - load.refused,
        "sent_late_ms": 1000 * load.late_s,
        "clients_cores": load.clients_cores,
    }


def rows(rounds: Sequence[Sequence[Facts]]) -> list[list[str]]:
    """The table's rows: medians over the rounds, counts added up."""
    return [_row(runs) for runs in zip(*rounds, strict=True)]


def _row(runs: Sequence[Facts]) -> list[str]:
    def middle(name: str) -> float:
        return float(statistics.median(run[name] for run in runs))

    def total(name: str) -> int:
        return int(sum(run[name] for run in runs))

    shares = [run["of_peak"] for run in runs]
    return [
        runs[0]["load"],
        f"{middle('good_per_s'):.1f}",
        f"{middle('of_peak'):.2f} ({min(shares):.2f} to {max(shares):.2f})",
        f"{middle('p50_ms'):.0f}",
        f"{middle('p99_ms'):.0f}",
        f"{middle('p99_of_p50_alone'):.1f}",
        f"{total('refused')} of {total('sent')}",
        str(total("lost")),
    ]


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    about, rounds = circumstances("benchmarks.latency", arguments), list[list[Facts]]()
    with running(HASTY, say) as server:
        for seed in range(options.rounds):
            rounds.append(one_round(server, seed))
            for facts in rounds[-1]:
                say(json.dumps(facts))
    write(RESULTS / "latency", [about, *itertools.chain(*rounds)], table.markdown(HEADER, rows(rounds)))
    sys.stdout.write(table.text(HEADER, rows(rounds)))
    return 0


if __name__ == "__main__":
    run(main)
