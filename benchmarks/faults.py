"""Losses of LitServe, mosec and Darkroom under the same faults, side by side. `make faults` runs it.

The servers are started one after another, each on both cores with the clients beside it. So columns can be compared
with each other, but not with those of another machine.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks import fault_cells, scenarios
from benchmarks.kinds import KINDS
from benchmarks.servers import Server, ServerKind, running
from harness import table
from harness.circumstances import circumstances
from harness.command import RESULTS, Facts, parser_of, run, say, write

MAX_OTHERS_CORES: Final = 0.3
"""Cores used by other programs above which the figures are unreliable."""


@dataclass(frozen=True, slots=True)
class ComparedFault:
    """A fault that is done to every server.

    Args:
        name: name in the results, and for `--only`.
        title: title in the table.
        cause: causes the fault three times; returns a record of each, None if the fault does not apply to the server.
        cell: formats the records for the table.
    """

    name: str
    title: str
    cause: Callable[[Server], Coroutine[Any, Any, list[Facts] | None]]
    cell: Callable[[Sequence[Facts]], str]


@dataclass(frozen=True, slots=True)
class FaultResult:
    """Outcome of one fault at one server.

    Args:
        server: name of the server.
        fault: name of the fault.
        runs: a record of each run; None if the fault does not apply to the server.
        took_s: seconds of all runs together.
        others_cores: cores used meanwhile by other programs, and by a killed process since the fault began.
    """

    server: str
    fault: str
    runs: list[Facts] | None
    took_s: float
    others_cores: float


FAULTS: Final = (
    ComparedFault(
        "truncated",
        "one of eight images cut off, a client each",
        scenarios.truncated_among_clients,
        fault_cells.neighbours,
    ),
    ComparedFault(
        "truncated-in-one-request",
        "the same, all eight in one request",
        scenarios.truncated_in_one_request,
        fault_cells.neighbours,
    ),
    ComparedFault(
        "announced-bomb",
        "one of eight a PNG that announces 50,000 x 50,000",
        scenarios.announced_bomb_among_clients,
        fault_cells.neighbours_and_memory,
    ),
    ComparedFault(
        "decodable-bomb",
        "one of eight a PNG of 12,000 x 12,000, 0.4 MB",
        scenarios.decodable_bomb_among_clients,
        fault_cells.neighbours_and_memory,
    ),
    ComparedFault(
        "gone-clients",
        "64 clients send 12 megapixels each and hang up; the next one",
        scenarios.gone_clients,
        fault_cells.gone,
    ),
    ComparedFault("overload", "twice the capacity for 10 s", scenarios.overload, fault_cells.overload),
    ComparedFault(
        "killed-decoder",
        "a process that decodes is killed, at 20 requests/s",
        scenarios.killed_decoder,
        fault_cells.kills,
    ),
    ComparedFault(
        "killed-model",
        "a process that runs the model is killed, at 20 requests/s",
        scenarios.killed_model,
        fault_cells.kills,
    ),
)
"""All faults; those that may leave a server damaged come last."""


def measure(kind: ServerKind, faults: Sequence[ComparedFault], keep: Callable[[FaultResult], None]) -> None:
    """Start one server and cause all faults in turn; start a new one if the server has not survived."""
    left = list(faults)
    while left:
        with running(kind, say) as server:
            while left:
                fault = left.pop(0)
                say(f"{kind.name}: {fault.title}")
                result = cause(fault, server)
                keep(result)
                say(f"    {fault.cell(result.runs) if result.runs else table.NOTHING}")
                if left and not server.answers() and asyncio.run(scenarios.until_answers(server)) is None:
                    say(f"{kind.name} answers no more; another one is started")
                    break


def cause(fault: ComparedFault, server: Server) -> FaultResult:
    """Cause one fault at one server, and measure the other load of the machine meanwhile."""
    began_at, others_s = time.monotonic(), _others_s(server)
    runs = asyncio.run(fault.cause(server))
    others_s, took_s = _others_s(server) - others_s, time.monotonic() - began_at
    return FaultResult(server.name, fault.name, runs, round(took_s, 1), max(0.0, round(others_s / took_s, 2)))


def _others_s(server: Server) -> float:
    """Processor time used by everything but the server and this process."""
    machine, own = psutil.cpu_times(), psutil.Process().cpu_times()
    return sum(machine) - machine.idle - machine.iowait - machine.guest - own.user - own.system - server.cpu_s()


def rows(
    faults: Sequence[ComparedFault], kinds: Sequence[ServerKind], results: Sequence[FaultResult]
) -> list[list[str]]:
    """Return the table's rows."""
    runs = {(result.server, result.fault): result.runs for result in results}

    def cell(fault: ComparedFault, kind: ServerKind) -> str:
        shown = runs.get((kind.name, fault.name))
        return fault.cell(shown) if shown else table.NOTHING

    return [[fault.title, *(cell(fault, kind) for kind in kinds)] for fault in faults]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = parser_of("benchmarks.faults", __doc__)
    parser.add_argument("--server", action="append", choices=[kind.name for kind in KINDS], help="only this one")
    parser.add_argument("--only", action="append", choices=[fault.name for fault in FAULTS], help="only this fault")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for faults.json and faults.md")
    options = parser.parse_args(arguments)
    kinds = [kind for kind in KINDS if not options.server or kind.name in options.server]
    faults = [fault for fault in FAULTS if not options.only or fault.name in options.only]
    began_at = time.monotonic()
    about = circumstances("benchmarks.faults", arguments)
    results = list[FaultResult]()
    header = ["", *(kind.name for kind in kinds)]

    def keep(result: FaultResult) -> None:  # at once, so that a run that is ended early keeps its results
        results.append(result)
        write(
            options.out / "faults", [about, *map(asdict, results)], table.markdown(header, rows(faults, kinds, results))
        )

    for kind in kinds:
        measure(kind, faults, keep)
    sys.stdout.write(table.text(header, rows(faults, kinds, results)))
    say(f"{time.monotonic() - began_at:.0f} s; written to {options.out}")
    if (most := max(result.others_cores for result in results)) > MAX_OTHERS_CORES:
        say(f"something else on this machine used up to {most:.1f} cores meanwhile: measure again when it is quiet")
    return 0


if __name__ == "__main__":
    run(main)
