"""The child process that decodes case after case, and keeps its position and its counts in shared memory."""

import json
import mmap
import os
import time
import warnings
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.decode.memory import MemoryLimit
from pipeline.errors import ImageError
from pipeline.images.decode import decode
from pipeline.records import Transform
from tests.fuzz.case import FuzzCase, case
from tests.fuzz.seed_files import FAMILIES, Seed

MAX_PIXELS: Final = 600_000
SLOW_S: Final = 0.5  # of one core

ANSWERED: Final = "answered"
OTHER: Final = "other error"
CLASSES: Final = (
    ANSWERED,
    "EmptyImage",
    "UnsupportedFormat",
    "UndecodableImage",
    "TooManyPixels",
    "TooMuchMemory",
    "other ImageError",
    OTHER,
)


class SharedTally:
    """Counts in memory that a child and its parent share, so they outlive a child that dies."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 4096)
        numbers = np.frombuffer(self._memory, np.int64)
        self.now: NDArray[np.int64] = numbers[:2]  # number of the case in work, and its start (monotonic, ns)
        self.counts: NDArray[np.int64] = numbers[2 : 2 + len(FAMILIES) * len(CLASSES)].reshape(len(FAMILIES), -1)


def run(tally: SharedTally, findings: int, seed: int, seeds: Sequence[Seed], numbers: range) -> None:
    """Decode the cases with these numbers.

    Args:
        tally: collects the counts.
        findings: file descriptor that gets a line of JSON for each case that is worth a look.
        seed: seed of all cases.
        seeds: files that are mutated.
        numbers: numbers of the cases.
    """
    MemoryLimit().fit(MAX_PIXELS)
    for number in numbers:
        tally.now[:] = number, time.monotonic_ns()
        one = case(number, seed, seeds)
        family = FAMILIES.index(one.seed.family)
        outcomes = []
        for transform in one.transforms:
            tally.now[1], started_s = time.monotonic_ns(), time.process_time()
            outcome, detail = outcome_of(one.data, transform)
            outcomes.append(outcome)
            tally.counts[family, CLASSES.index(outcome)] += 1
            taken_s = time.process_time() - started_s
            if outcome == OTHER or taken_s > SLOW_S:
                kind = OTHER if outcome == OTHER else "slow"
                _write(findings, kind, number, one, f"{detail} ({transform.decode}, {taken_s:.2f} s)")
        if len({outcome == ANSWERED for outcome in outcomes}) > 1:
            _write(findings, "answered in one mode only", number, one, f"fast, exact: {', '.join(outcomes)}")


def outcome_of(data: bytes, transform: Transform) -> tuple[str, str]:
    """Return the class of the outcome, and the message of the error."""
    try:
        with warnings.catch_warnings(action="ignore"):
            pixels = decode(memoryview(data), transform, MAX_PIXELS)
    except ImageError as error:
        name = type(error).__name__
        return (name if name in CLASSES else "other ImageError"), str(error)
    except Exception as error:  # noqa: BLE001 - every other error is a finding
        return OTHER, repr(error)
    side = transform.crop_px
    if pixels.shape != (side, side, 3) or pixels.dtype != np.uint8:
        return OTHER, f"{pixels.dtype} {pixels.shape}"
    return ANSWERED, ""


def _write(findings: int, kind: str, number: int, one: FuzzCase, detail: str) -> None:
    found: dict[str, Any] = {
        "kind": kind,
        "case": number,
        "from": f"{one.seed.family} {one.seed.name}",
        "bytes": len(one.data),
        "detail": detail[:300],
    }
    os.write(findings, json.dumps(found).encode() + b"\n")
