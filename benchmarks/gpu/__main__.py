"""Runs all steps on a machine with a GPU, and ends with a table: `python -m benchmarks.gpu`, or `make gpu`.

Every step has its own time limit; a step that fails or is cut off does not affect the others. Figures are written at
once, so that a run that is cut off keeps them.
"""

import argparse
import datetime
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu import gpu_page as report
from benchmarks.gpu import gpu_steps as plan
from benchmarks.gpu.monitor import monitored
from benchmarks.gpu.results import Results
from benchmarks.gpu.step_process import GRACE_S, Ended, run_step
from harness import table
from harness.circumstances import circumstances
from harness.command import RESULTS, Facts, run, say

PAGE: Final = "gpu.md"
NO_GPU_STATUS: Final = 2
"""Exit status on a machine without a GPU."""

_ENVIRONMENT: Final = {
    "PYTHONUNBUFFERED": "1",
    "SPT_NOENV": "1",  # Ray's process titles would hide the mark by which processes of a step are found
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
}
_DRY_ENVIRONMENT: Final = {
    "CUDA_VISIBLE_DEVICES": "",  # a dry run uses the CPU even if there is a GPU
    "OMP_NUM_THREADS": "1",  # torch's threads wait for each other: on a busy machine one is faster than two
}
_SHOWN_LOG_LINES: Final = 15
"""Lines of a failed step's log that are shown."""


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    options = parsed(arguments)
    gpu = gpu_name()
    if gpu is None and not options.dry:
        say("torch finds no GPU here (torch.cuda.is_available() is false); make gpu DRY=1 tries everything on the CPU.")
        return NO_GPU_STATUS
    about = {**circumstances("benchmarks.gpu", arguments), "gpu": gpu or "none: dry run on a CPU that poses as one"}
    if options.commit:
        about["darkroom"] = options.commit
    out = (options.out or default_folder(gpu, dry=options.dry)).absolute()
    results = Results(out, time.time())
    results.add("run", {"about": about})
    say(f"{about['gpu']}; figures and logs: {out}")
    failed = run_steps(options, about, results)
    rows = report.rows(results.read())
    if gpu and not (options.dry or options.only or options.case):  # a partial run does not replace a complete one
        RESULTS.mkdir(parents=True, exist_ok=True)
        shutil.copy(out / PAGE, RESULTS / PAGE)
    sys.stdout.write(table.text(report.HEADER, rows))
    say(f"{len(rows)} figures in {out}" + (f"; not whole: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    shown = "\n".join(f"  {step.name:<12}{step.limit_s:>4.0f} s  {step.shows}" for step in plan.STEPS)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=(__doc__ or "").splitlines()[0],
        epilog=f"steps, with the most that each takes:\n{shown}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", choices=plan.STEP_NAMES, default=[], metavar="STEP", help="only these steps"
    )
    parser.add_argument("--case", action="append", default=[], help="of the service only cases with this in their name")
    parser.add_argument("--budget-s", type=float, help=f"seconds for all of it ({plan.BUDGET_S:.0f})")
    parser.add_argument("--out", type=Path, help="folder for figures and logs (benchmarks/results/gpu/DATE-GPU)")
    parser.add_argument("--commit", help="what the figures belong to, where git cannot tell: a copy without history")
    parser.add_argument("--dry", action="store_true", help="a trial of every line, small, on a CPU that poses as a GPU")
    options = parser.parse_args(arguments)
    options.budget_s = options.budget_s or (plan.DRY_BUDGET_S if options.dry else plan.BUDGET_S)
    return options


def gpu_name() -> str | None:
    """Return the name of the CUDA device that torch finds, or None."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def default_folder(gpu: str | None, *, dry: bool) -> Path:
    """Return benchmarks/results/gpu/DATE-GPU; for a dry run a temporary folder."""
    if dry or gpu is None:
        return Path(tempfile.mkdtemp(prefix="darkroom-gpu-dry-"))
    at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d-%H%M")
    return RESULTS / "gpu" / f"{at}-{re.sub(r'[^A-Za-z0-9]+', '-', gpu).strip('-')}"


def run_steps(options: argparse.Namespace, about: Facts, results: Results) -> list[str]:
    """Run the chosen steps within the budget; return the names of steps that did not complete.

    The page is rewritten after each step: the machine may be lost during the next one.
    """
    began_at, failed = time.monotonic(), list[str]()
    environment = {**_ENVIRONMENT, **(_DRY_ENVIRONMENT if options.dry else {})}
    with monitored(results.folder / "smi.csv"):
        for step in plan.chosen(options.only):
            left_s = options.budget_s - (time.monotonic() - began_at) - GRACE_S
            limit_s = min(step.limit_s, left_s)
            if limit_s < plan.MIN_STEP_S:
                say(f"{step.name}: left out, {max(0.0, left_s):.0f} s are left")
                results.add(step.name, {"left_out": True})
                failed.append(step.name)
            else:
                log = results.folder / f"{step.name}.log"
                ended = run_step(command_of(step, limit_s, results, options), limit_s, log, environment)
                results.add(step.name, ended_record(ended))
                say(end_in_words(step, ended, log))
                failed += [step.name] if ended.failed else []
            (results.folder / PAGE).write_text(report.page(about, results.read()))
    return failed


def command_of(step: plan.GpuStep, limit_s: float, results: Results, options: argparse.Namespace) -> list[str]:
    """Return the command line of a step's process."""
    command = [sys.executable, "-m", "benchmarks.gpu.part", step.name, *step.parts]
    command += ["--out", str(results.folder), "--limit-s", str(limit_s), "--began-at", str(results.began_at)]
    command += [part for case in options.case for part in ("--case", case)]
    return [*command, "--dry"] if options.dry else command


def ended_record(ended: Ended) -> dict[str, Any]:
    """Make the record of a step's end."""
    return {
        "status": ended.status,
        "seconds": round(ended.seconds, 1),
        "cut_off": ended.cut_off,
        "killed": ended.killed,
    }


def end_in_words(step: plan.GpuStep, ended: Ended, log: Path) -> str:
    """Describe a step in one line, and a failed one with the end of its log."""
    said = f"{step.name}: {ended.seconds:.0f} s"
    if ended.cut_off:
        said += ", cut off"
    if ended.killed:
        said += f", {ended.killed} processes ended by force"
    if not ended.failed:
        return said
    tail = [line[:300] for line in log.read_text(errors="replace").splitlines()[-_SHOWN_LOG_LINES:]]
    return "\n    ".join([f"{said}, status {ended.status}; the end of {log}:", *tail])


if __name__ == "__main__":
    run(main)
