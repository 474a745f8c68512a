"""The command line of a benchmark: its arguments, its results, and its end by Ctrl-C."""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

from deployments.open_files import raise_open_files_limit
from harness import table
from harness.repository import ROOT

RESULTS: Final = ROOT / "benchmarks" / "results"

Facts = dict[str, Any]


def write(stem: Path, records: Sequence[Facts], markdown: str) -> None:
    """Write the results: `stem`.json with one record a line, and the table as `stem`.md."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text("".join(json.dumps(record) + "\n" for record in records))
    stem.with_suffix(".md").write_text(markdown)


def parser_of(module: str, text: str) -> argparse.ArgumentParser:
    """Make the parser of a module's command line, described by the first line of the module's docstring."""
    return argparse.ArgumentParser(prog=f"python -m {module}", description=text.splitlines()[0])


def publish(
    name: str, about: Facts, records: Sequence[Facts], header: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    """Write the results of a benchmark to `benchmarks/results/`, and print its table."""
    write(RESULTS / name, [about, *records], table.markdown(header, rows))
    sys.stdout.write(table.text(header, rows))


def say(line: str) -> None:
    """Print progress to stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def run(main: Callable[[Sequence[str]], int]) -> None:
    """Run a command line until its end, Ctrl-C or SIGTERM; the servers that it has started are ended in any case."""
    # Sets handlers even if a shell has set SIGINT to be ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _stop)
    raise_open_files_limit()  # each waiting request has a connection, at both ends
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
