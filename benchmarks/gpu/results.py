"""Records of a run in a file: one JSON line each, written at once, so that a run that is cut off keeps them."""

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.outcome import Figure, Missing

Record = dict[str, Any]

_SIGNIFICANT_DIGITS: Final = 4
"""Significant digits of a figure."""


class Results:
    """The file `results.jsonl` of an output folder, to which processes of a run append one after another.

    Args:
        folder: output folder; created if missing.
        began_at: start of the run, by `time.time`; records hold the seconds since then.
    """

    def __init__(self, folder: Path, began_at: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.began_at = folder, began_at
        self._path = folder / "results.jsonl"

    def add(self, step: str, record: Figure | Missing | Record) -> None:
        """Write one record."""
        fields = record if isinstance(record, dict) else dataclasses.asdict(record)
        fields = {name: value for name, value in fields.items() if value not in ("", (), {})}
        if "value" in fields:
            fields["value"] = rounded(fields["value"])
        line = {"step": step, "at_s": round(time.time() - self.began_at, 1), **fields}
        with self._path.open("a") as file:
            file.write(json.dumps(line, default=str) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Record]:
        """Read all records so far, in the order of writing."""
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_text().splitlines() if line.endswith("}")]


def rounded(value: float) -> float:
    """Round a value to four significant digits."""
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")
