"""The table of a run: every figure, and its share of the ceiling that was measured in the same run."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.outcome import TIME_UNITS
from benchmarks.gpu.results import Record, Results, rounded
from harness import table

HEADER: Final = ("step", "what", "measured", "of its ceiling", "more")

_ABOUT_KEYS: Final = (
    "date",
    "command",
    "gpu",
    "cpu",
    "cores",
    "memory_gib",
    "darkroom",
    "python",
    "torch",
    "torchvision",
    "ray",
)
"""Lines above the table."""


def ceilings(records: Sequence[Record]) -> dict[str, float]:
    """Find the best figure for each name of a ceiling: the largest rate, the shortest time."""
    best = dict[str, float]()
    for record in records:
        if name := record.get("sets"):
            pick = min if record["unit"] in TIME_UNITS else max
            best[name] = pick(best.get(name, record["value"]), record["value"])
    return best


def share(record: Record, known: Mapping[str, float]) -> tuple[float, str] | None:
    """Compute the share of its ceiling that a figure reaches, with the ceiling's name; None if none was measured.

    A rate with several ceilings is compared with the lowest one, a time with the shortest one.
    """
    found = [(known[name], name) for name in record.get("of", ()) if known.get(name)]
    if not found or not record.get("value"):
        return None
    ceiling, name = min(found)
    return (ceiling / record["value"] if record["unit"] in TIME_UNITS else record["value"] / ceiling), name


def rows(records: Sequence[Record]) -> list[list[str]]:
    """Make rows for all figures, missing figures, and steps that did not complete."""
    known, found = ceilings(records), list[list[str]]()
    for record in records:
        step, what, note = record["step"], record.get("what", ""), record.get("note", "")
        if "value" in record:
            reached = share(record, known)
            of = f"{reached[0]:.2f} of {reached[1]}" if reached else ""
            found.append([step, what, f"{_number(record['value'])} {record['unit']}", of, note])
        elif "reason" in record:
            found.append([step, what, "-", "", record["reason"].partition("\n")[0][:160]])
        elif record.get("left_out"):
            found.append([step, "the step", "-", "", "left out: no time left"])
        elif record.get("cut_off"):
            found.append([step, "the step", "-", "", f"cut off after {record['seconds']:.0f} s"])
        elif record.get("status"):
            found.append([step, "the step", "-", "", f"ended with status {record['status']}"])
    return found


def page(about: Mapping[str, Any], records: Sequence[Record]) -> str:
    """Make the page `gpu.md`."""
    lines = [f"- {name}: {about[name]}" for name in _ABOUT_KEYS if about.get(name)]
    return "\n".join(
        [
            "# Darkroom on a GPU",
            "",
            *lines,
            "",
            "Each share is of the ceiling named beside it, which the same run measured; of several, the lowest.",
            "",
            table.markdown(HEADER, rows(records)),
        ]
    )


def main(paths: Sequence[str]) -> int:
    """Print the page of several runs on one machine as one: `python -m benchmarks.gpu.gpu_page FOLDER ...`."""
    records = [record for path in paths for record in Results(Path(path), 0.0).read()]
    runs = [record["about"] for record in records if "about" in record]
    if not runs:
        sys.stderr.write("usage: python -m benchmarks.gpu.gpu_page FOLDER ...\n")
        return 2
    commands = "; ".join(run["command"] for run in runs)
    sys.stdout.write(page({**runs[0], "command": commands}, records))
    return 0


def _number(value: float) -> str:
    """Format a value with four significant digits and no exponent."""
    return f"{rounded(value):,.10g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
