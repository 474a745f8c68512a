"""Runs parts of one step in their own process: `python -m benchmarks.gpu.part STEP PART ... --out DIR --limit-s S`."""

import argparse
import importlib
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting, shortened
from benchmarks.gpu.results import Results
from harness.command import run
from harness.fake_cuda import pretend

Measure = Callable[[PartSetting], Iterator[Figure | Missing]]

PARTS: Final = {
    "facts": "facts:facts",
    "tests": "cuda_tests:passed",
    "decoding": "decode_rates:rates",
    "main_models": "models:main_rates",
    "models": "models:rates",
    "http": "http_alone:rates",
    "service": "service_rates:rates",
    "comparison": "loader_comparison:rates",
    "kinds": "model_kinds:rates",
    "copies": "copies:rates",
    "waiting": "device_waits:costs",
    "launching": "launching:costs",
    "search": "cudnn_search:rates",
    "sharing": "sharing:rates",
    "nvjpeg": "nvjpeg:rates",
    "compiling": "compiling:rates",
}
"""Module and function that measure each part."""

PARTS_WITHOUT_FAKE_GPU: Final = frozenset({"facts", "tests", "http", "service"})
"""Parts without the fake GPU in a dry run: the tests have their own, and replicas compute on the CPU."""

_WRITING_TIME_S: Final = 4.0
"""Seconds before the limit at which a part should be done, so that its process need not be killed."""


def measure_of(part: str) -> Measure:
    """Return the function of a part; import only its module, as modules are large and another may be broken."""
    module, _, function = PARTS[part].partition(":")
    found: Measure = getattr(importlib.import_module(f"benchmarks.gpu.{module}"), function)
    return found


def measured(step: str, part: str, setting: PartSetting, results: Results) -> bool:
    """Write the figures of a part at once; return whether the part has completed."""
    try:
        for record in measure_of(part)(setting):
            results.add(step, record)
            print(record, flush=True)
    except Exception as error:  # noqa: BLE001 - the parts behind it run whatever it raises
        traceback.print_exc(file=sys.stderr)
        results.add(step, Missing(part, shortened(error)))
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.part", description=__doc__)
    parser.add_argument("step", help="as its records call it")
    parser.add_argument("parts", nargs="+", choices=PARTS, help="one after another")
    parser.add_argument("--out", type=Path, required=True, help="folder for figures and logs")
    parser.add_argument("--limit-s", type=float, required=True, help="when the runner ends this process")
    parser.add_argument("--began-at", type=float, default=time.time(), help="seconds since 1970 when the run began")
    parser.add_argument("--case", action="append", default=[], help="only cases with this in their names")
    parser.add_argument("--dry", action="store_true", help="small, on a CPU that poses as a GPU")
    options = parser.parse_args(arguments)
    ends_at = time.monotonic() + options.limit_s - _WRITING_TIME_S
    warnings.simplefilter("ignore")
    os.environ.pop("PYTHONWARNINGS", None)
    setting = PartSetting(options.out, ends_at, options.dry, tuple(options.case))
    results = Results(options.out, options.began_at)
    with pretend() if options.dry and not set(options.parts) <= PARTS_WITHOUT_FAKE_GPU else nullcontext():
        ended = [measured(options.step, part, setting, results) for part in options.parts]
    return 0 if all(ended) else 1


if __name__ == "__main__":
    run(main)
