"""Twice the capacity: what it does to those who are answered, and what is left of the peak. `make overload` runs it.

Round after round measures the peak, 80 % and 200 % of it, and the peak again: the speed of a machine drifts, and a
ratio is taken within its round. Requests come by chance (Poisson). Server, balancer and clients share the cores.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
from collections.abc import Sequence
from typing import Any, Final

from benchmarks import table
from benchmarks.clients import Answer, closed_loop, open_loop
from benchmarks.command import RESULTS, circumstances, run, say, write
from benchmarks.images import photographs
from benchmarks.scenarios import quantile
from benchmarks.servers import DARKROOM, Server, running

CLIENTS: Final = 8
LIGHT: Final = 0.8
HEAVY: Final = 2.0
FOR_S: Final = 5.0
HEADER: Final = ("of the capacity", "predictions/s", "of the peak", "p50 ms", "p99 ms", "refused", "otherwise lost")

Facts = dict[str, Any]


async def one_round(server: Server, seed: int) -> Facts:
    """The peak before and after, and between them what became of those who came at a rate of their own."""
    forms = [server.kind.wrap(image) for image in photographs()]
    before = await closed_loop(server.target, forms, clients=CLIENTS, warm_up_s=1, for_s=FOR_S)
    light = await open_loop(server.target, forms, rate=LIGHT * before, for_s=FOR_S, poisson=random.Random(seed))
    heavy = await open_loop(server.target, forms, rate=HEAVY * before, for_s=FOR_S, poisson=random.Random(seed))
    after = await closed_loop(server.target, forms, clients=CLIENTS, warm_up_s=1, for_s=FOR_S)
    return {
        "peak_before_per_s": round(before, 1),
        "peak_after_per_s": round(after, 1),
        "light": _of(light, (before + after) / 2),
        "heavy": _of(heavy, (before + after) / 2),
    }


def _of(answers: Sequence[Answer], peak: float) -> Facts:
    took_s = sorted(answer.took_s for answer in answers if answer.good)
    refused = sum(answer.status == 503 for answer in answers)
    return {
        "sent": len(answers),
        "good_per_s": round(len(took_s) / FOR_S, 1),
        "of_peak": round(len(took_s) / FOR_S / peak, 3),
        "p50_ms": round(1000 * quantile(took_s, 0.5)),
        "p99_ms": round(1000 * quantile(took_s, 0.99)),
        "refused": refused,
        "lost": len(answers) - len(took_s) - refused,
        "sent_late_ms": round(1000 * max(answer.late_s for answer in answers)),
    }


def rows(rounds: Sequence[Facts]) -> list[list[str]]:
    """The table's rows: medians over the rounds, counts added up."""
    peaks = [peak for facts in rounds for peak in (facts["peak_before_per_s"], facts["peak_after_per_s"])]
    found = [[f"closed loop, {CLIENTS} clients", f"{statistics.median(peaks):.1f}", "1", "", "", "", ""]]
    for name, share in (("light", LIGHT), ("heavy", HEAVY)):
        runs = [facts[name] for facts in rounds]

        def middle(key: str, runs: Sequence[Facts] = runs) -> float:
            return float(statistics.median(run[key] for run in runs))

        def total(key: str, runs: Sequence[Facts] = runs) -> int:
            return int(sum(run[key] for run in runs))

        spread = f"{min(run['of_peak'] for run in runs):.2f} to {max(run['of_peak'] for run in runs):.2f}"
        found.append(
            [
                f"{share:.0%}",
                f"{middle('good_per_s'):.1f}",
                f"{middle('of_peak'):.2f} ({spread})",
                f"{middle('p50_ms'):.0f}",
                f"{middle('p99_ms'):.0f}",
                f"{total('refused')} of {total('sent')}",
                str(total("lost")),
            ]
        )
    return found


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    about = circumstances("benchmarks.overload", arguments)
    rounds = list[Facts]()
    with running(DARKROOM, say) as server:
        for seed in range(options.rounds):
            rounds.append(asyncio.run(one_round(server, seed)))
            say(json.dumps(rounds[-1]))
    write(RESULTS / "overload", [about, *rounds], table.markdown(HEADER, rows(rounds)))
    sys.stdout.write(table.text(HEADER, rows(rounds)))
    return 0


if __name__ == "__main__":
    run(main)
