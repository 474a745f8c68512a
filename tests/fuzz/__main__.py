"""Fuzzes the decoders: `python -m tests.fuzz --minutes 10 --seed 1`. The last line is JSON.

Files are mutated by their structure and by single bits. A child process decodes them by
`pipeline.images.decode.decode`. Its malloc checks every block that it frees (MALLOC_CHECK_=3; glibc from 2.34 needs
libc_malloc_debug.so.0 preloaded) and fills blocks that are allocated or freed (MALLOC_PERTURB_). With `--guard`, each
block ends at a protected page instead, so that a read beyond it is noticed too (`guard.c`, compiled by `cc`). A child
that dies or hangs loses one case: its file is made again from seed and number, reduced, and written into the folder
`--findings`.
"""

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from pipeline.records import Transform
from tests.fuzz.case import case
from tests.fuzz.child import CLASSES, SharedTally, outcome_of, run
from tests.fuzz.seed_files import FAMILIES, seeds
from tests.fuzz.shrink import shrunk

CASES_A_CHILD: Final = 50_000
HANG_S: Final = 10.0
_CHECKS: Final = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}
_CHECKED: Final = "DARKROOM_FUZZ_CHECKED"
_GUARD_SOURCE: Final = Path(__file__).with_name("guard.c")
_PACKAGES: Final = ("pillow", "simplejpeg", "torch", "numpy")


def main() -> None:
    """Run until the time is over; exit with 1 if a child died, hung or raised anything but an ImageError."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=Path(tempfile.gettempdir(), "darkroom-fuzz"))
    parser.add_argument("--guard", action="store_true", help="end each block at a guarded page")
    parser.add_argument("--skip", action="append", default=[], help="leave out seeds with this word in their names")
    arguments = parser.parse_args()
    arguments.findings.mkdir(parents=True, exist_ok=True)
    if _CHECKED not in os.environ:
        checks = _guard(arguments.findings) if arguments.guard else _CHECKS
        again = [sys.executable, "-m", "tests.fuzz", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | checks | {_CHECKED: "1"})  # noqa: S606 - this program
    torch.set_num_threads(1)  # a child is forked, and so has no other threads
    if all(_status_of(partial(_overflow, byte)) == 0 for byte in b"AB"):  # malloc may check by one of the bytes
        sys.exit("malloc does not notice an overflow here: is libc_malloc_debug.so.0 (Debian: libc6) installed?")
    report = Fuzzing(arguments.seed, arguments.skip, arguments.findings).run(arguments.minutes * 60)
    print(json.dumps(report))
    sys.exit(1 if report["crashes"] or report["hangs"] or report["other_errors"] else 0)


def _guard(folder: Path) -> dict[str, str]:
    """Compile the guarding malloc; return the environment that preloads it."""
    library = folder / "guard.so"
    compiler = ("cc", "-O1", "-shared", "-fPIC", "-o")
    subprocess.run([*compiler, library, _GUARD_SOURCE], check=True)
    return {"LD_PRELOAD": str(library)}


def _arm() -> None:
    """Make the guarding malloc begin in a child; do nothing if it is not preloaded."""
    guard_arm = getattr(ctypes.CDLL(None), "guard_arm", None)
    if guard_arm is not None:
        guard_arm()


def _overflow(byte: int) -> None:
    block = np.empty(100_000, np.uint8)
    ctypes.memset(block.ctypes.data, byte, len(block) + 1)
    del block


def _status_of(work: Callable[[], object]) -> int:
    """Return the exit status of a child that does the work, negative if a signal ended it."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        _arm()
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _kills(data: bytes, transform: Transform) -> bool:
    """Return whether decoding a file with these bytes ends its process."""
    return _status_of(lambda: outcome_of(data, transform)) < 0


class Fuzzing:
    """A fuzzing run: child processes one after the other, and their findings."""

    def __init__(self, seed: int, skip: Sequence[str], folder: Path) -> None:
        self._seed, self._folder = seed, folder
        self._seeds = [each for each in seeds() if not any(word in each.name for word in skip)]
        self._tally = SharedTally()
        self._lines = tempfile.TemporaryFile()  # noqa: SIM115 - open during the run
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._ends: list[dict[str, Any]] = []

    def run(self, for_s: float) -> dict[str, Any]:
        """Fuzzes for this long, prints the findings, and returns the report."""
        started, number = time.monotonic(), 0
        print(f"{len(self._seeds)} seeds; {', '.join(f'{name} {version(name)}' for name in _PACKAGES)}", flush=True)
        while (left_s := started + for_s - time.monotonic()) > 0:
            number = self._child(number, left_s)
        return self._report(number, time.monotonic() - started)

    def _child(self, first: int, for_s: float) -> int:
        """Run one child; return the number of the next case."""
        last = first + CASES_A_CHILD
        self._tally.now[:] = first, time.monotonic_ns()
        self._errors.seek(0)
        self._errors.truncate()
        child = os.fork()
        if not child:
            os.dup2(self._errors.fileno(), 2)
            _arm()
            try:
                run(self._tally, self._lines.fileno(), self._seed, self._seeds, range(first, last))
                os._exit(0)
            finally:
                os._exit(70)
        ended, until = self._wait(child, time.monotonic() + for_s)
        number = int(self._tally.now[0])
        if ended is None:
            return number if until == "over" else self._found("hang", number, f"more than {HANG_S:.0f} s")
        if ended == 0:
            return last
        self._errors.seek(0)
        said = self._errors.read()[-300:].decode(errors="replace").strip()
        name = signal.Signals(-ended).name if ended < 0 else f"exit status {ended}"
        return self._found("crash", number, f"{name}: {said}")

    def _wait(self, child: int, deadline: float) -> tuple[int | None, str]:
        """Return the exit status of a child, or None and the reason if it was killed."""
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status), ""
            hangs = time.monotonic_ns() - int(self._tally.now[1]) > HANG_S * 1e9
            if hangs or time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return None, "hangs" if hangs else "over"
            time.sleep(0.02)

    def _found(self, kind: str, number: int, detail: str) -> int:
        one = case(number, self._seed, self._seeds)
        data, transform = one.data, one.transforms[0]
        if kind == "crash":
            data, transform = self._smaller(data, one.transforms)
        path = self._folder / f"{kind}-{self._seed}-{number}.{one.seed.family.lower()}"
        path.write_bytes(data)
        found = {
            "kind": kind,
            "case": number,
            "from": f"{one.seed.family} {one.seed.name}",
            "bytes": len(data),
            "transform": [transform.resize_px, transform.crop_px, transform.interpolation, transform.decode],
            "detail": detail,
        }
        self._ends.append(found)
        print(json.dumps(found), flush=True)
        return number + 1

    def _smaller(self, data: bytes, transforms: tuple[Transform, ...]) -> tuple[bytes, Transform]:
        for transform in transforms:
            kills = partial(_kills, transform=transform)
            if kills(data):
                return shrunk(data, kills), transform
        return data, transforms[0]  # it takes the cases decoded before it

    def _report(self, number: int, for_s: float) -> dict[str, Any]:
        self._lines.seek(0)
        lines = [json.loads(line) for line in self._lines]
        kinds = Counter(line["kind"] for line in lines)
        shown: Counter[tuple[str, str]] = Counter()
        for line in lines:
            shown[key := (line["kind"], line["from"])] += 1
            if shown[key] <= 2:
                print(json.dumps(line))
        for family, counts in zip(FAMILIES, self._tally.counts.tolist(), strict=True):
            print(f"{family:5s}", ", ".join(f"{name} {n}" for name, n in zip(CLASSES, counts, strict=True) if n))
        by_class = dict(zip(CLASSES, self._tally.counts.sum(0).tolist(), strict=True))
        return {
            "seed": self._seed,
            "check": "guard pages" if "guard" in os.environ["LD_PRELOAD"] else "MALLOC_CHECK_=3, MALLOC_PERTURB_=165",
            "minutes": round(for_s / 60, 1),
            "cases": number,
            "executions": int(self._tally.counts.sum()),
            "by_class": by_class,
            "crashes": sum(found["kind"] == "crash" for found in self._ends),
            "hangs": sum(found["kind"] == "hang" for found in self._ends),
            "other_errors": kinds["other error"],
            "slow": kinds["slow"],
            "answered_in_one_mode_only": kinds["answered in one mode only"],
            "versions": {name: version(name) for name in _PACKAGES},
        }


if __name__ == "__main__":
    main()
