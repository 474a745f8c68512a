"""Compares the settings that `darkroom tune` chooses with a grid of settings. `make tuning` runs it.

For each kind of images the command runs once for each seed. Then one service is measured with every combination of
decode workers, concurrent batches and batch sizes, and otherwise the shipped settings, with the same number of
closed-loop clients. The best settings of that grid, the shipped and the chosen ones are measured again, in turn.

The highest of many noisy figures had luck. So for each round the other rounds decide which settings of the grid are the
best, and a choice is judged by its share of the rate of those settings in the same round.
"""

import argparse
import itertools
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.work import MIXED, PHONE, SMALL, Work
from harness.circumstances import circumstances
from harness.command import parser_of, publish, run, say
from harness.local_service import Document, LocalService, shipped_config
from harness.ports import apart, free_port
from harness.repository import ROOT
from tuning.clients import clients_for, usual_bound_s
from tuning.load_check import LoadCheck
from tuning.replica_settings import Settings, written_into
from tuning.tuned_config import tuned_config
from tuning.tuning_run import PEAK_ESTIMATE_CLIENTS

WORKS: Final[Mapping[str, Work]] = {
    "500x375": replace(SMALL, variants=16),
    "12MP": replace(PHONE, variants=4),
    "mixed": replace(MIXED, variants=4),
}
GRID: Final = tuple(itertools.product((1, 2, 3), (1, 2), (1, 2, 8)))  # decoding workers, batches at a time, batch size
REMEASURED_SETTINGS: Final = 3  # best settings of the grid, which are measured again
QUEUE_WAIT_S: Final = 60.0  # `max_queue_wait_s` of all settings: none refuses a request

COLUMNS: Final[Mapping[str, str]] = {
    "images": "images",
    "chosen": "chosen by `darkroom tune`",
    "took_s": "seconds",
    "images_per_s": "images/s",
    "of_best": "of the best of the grid",
    "standard_error": "standard error",
    "of_shipped": "of the shipped settings",
    "best": "best of the grid",
}

Rounds = Sequence[Mapping[Settings, float]]
"""Images answered a second within the bound, by settings, in each round."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Settings written by one run of the command, and the duration of the run."""

    seed: int
    settings: Settings
    took_s: float


def shipped() -> Document:
    """Read the shipped configuration, with a free port and one replica."""
    document = shipped_config()
    document["http_options"]["port"] = free_port()
    document["applications"][0]["deployments"][0]["autoscaling_config"]["max_replicas"] = 1
    return document


def settings_of(document: Document) -> Settings:
    """Read the settings of a configuration on this machine, with a queue that refuses nothing."""
    (application,) = document["applications"]
    return replace(tuned_config(document, application, {}).present, max_queue_wait_s=QUEUE_WAIT_S)


def chosen(seed: int, folder: Path) -> Choice:
    """Run the command on a configuration of its own and read the settings that it writes."""
    config = folder / "tuned.yaml"
    config.write_text(yaml.safe_dump(shipped()))
    command = [sys.executable, "-m", "commands.main", "tune", "--write", "--images", str(folder / "images")]
    named = ["--config", str(config), "--report", str(folder / "report.html"), "--seed", str(seed)]
    began_at = time.monotonic()
    done = subprocess.run([*command, *named], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"darkroom tune ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return Choice(seed, settings_of(yaml.safe_load(config.read_text())), time.monotonic() - began_at)


def grid(usual: Settings) -> list[Settings]:
    """List all combinations of the grid; those that need the same replica follow each other."""
    return [replace(usual, decode_workers=each[0], concurrent_batches=each[1], batch=each[2]) for each in GRID]


def in_short(settings: Settings) -> str:
    """Describe the compared settings in a few words."""
    return (
        f"{settings.decode_workers} workers, {settings.concurrent_batches} batches at a time, of up to {settings.batch}"
    )


def measured(
    choices: Sequence[Choice], folder: Path, images: Sequence[bytes], options: argparse.Namespace
) -> tuple[Sequence[Settings], Rounds]:
    """Measure the grid, then its best, the shipped and the chosen settings in turn; return the best and rounds."""
    document, usual = shipped(), settings_of(shipped())
    written_into(document["applications"][0], usual)
    service = LocalService(folder, document, apart())
    try:
        check = LoadCheck(service, images, 1.0, seed=100)
        alone = check.closed_loop(usual, 1, options.load_s)
        check.bound_s = usual_bound_s(alone.p50_s)
        clients = clients_for(check.bound_s, check.closed_loop(usual, PEAK_ESTIMATE_CLIENTS, options.load_s).answered)
        say(f"{clients} clients; the bound is {check.bound_s:g} s; an image alone takes {alone.p50_s:.4f} s")
        scored = partial(_scores, check, clients, options.load_s)
        scores = scored(grid(usual))
        best = sorted(scores, key=lambda each: scores[each], reverse=True)[:REMEASURED_SETTINGS]
        compared = sorted({*best, usual, *(choice.settings for choice in choices)}, key=lambda each: str(each.args))
        return best, [scored(compared[:: -1 if turn % 2 else 1]) for turn in range(options.rounds)]
    finally:
        service.stop()


def _scores(check: LoadCheck, clients: int, for_s: float, compared: Sequence[Settings]) -> dict[Settings, float]:
    scores = {}
    for settings in compared:
        check.apply(settings)
        scores[settings] = check.closed_loop(settings, clients, for_s).good
        say(f"{in_short(settings)}: {scores[settings]:.1f} images/s in time")
    return scores


def shares(rounds: Rounds, settings: Settings, others: Sequence[Settings]) -> list[float]:
    """Compute, for each round, the share of the best other settings' rate; the other rounds decide the best."""
    totals = {each: sum(scores[each] for scores in rounds) for each in others}
    best = [max(others, key=lambda each: totals[each] - scores[each]) for scores in rounds]
    return [scores[settings] / scores[each] for scores, each in zip(rounds, best, strict=True)]


def judged(kind: str, choice: Choice, best: Sequence[Settings], rounds: Rounds) -> dict[str, Any]:
    """Make the record of one choice."""
    means = {each: statistics.fmean(scores[each] for scores in rounds) for each in rounds[0]}
    of_best = shares(rounds, choice.settings, best)
    return {
        "images": kind,
        "seed": choice.seed,
        "chosen": in_short(choice.settings),
        "took_s": choice.took_s,
        "images_per_s": means[choice.settings],
        "of_best": statistics.fmean(of_best),
        "standard_error": statistics.stdev(of_best) / math.sqrt(len(of_best)),
        "of_shipped": means[choice.settings] / means[settings_of(shipped())],
        "best": in_short(max(best, key=lambda each: means[each])),
    }


def shown(value: Any) -> str:
    """Format a figure for the table."""
    return value if isinstance(value, str) else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _compare(kind: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="tuning-") as scratch:
        folder, images = Path(scratch), WORKS[kind].images
        (folder / "images").mkdir()
        for number, image in enumerate(images):
            (folder / "images" / f"{number}.jpg").write_bytes(image)
        choices = []
        for seed in range(options.seeds):
            choices.append(choice := chosen(seed, folder))
            say(f"{kind}, seed {seed}, {choice.took_s:.0f} s: {in_short(choice.settings)}")
        best, rounds = measured(choices, folder, images, options)
    return [judged(kind, choice, best, rounds) for choice in choices]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = parser_of("benchmarks.tuning", __doc__)
    parser.add_argument("--images", nargs="+", choices=WORKS, default=list(WORKS), help="kinds of images (all)")
    parser.add_argument("--seeds", type=int, default=2, help="runs of the command for each kind of images (2)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of the best settings, at least 2 (3)")
    parser.add_argument("--load-s", type=float, default=3.0, help="seconds that each load lasts (3)")
    options = parser.parse_args(arguments)
    about = circumstances("benchmarks.tuning", arguments)
    figures = [each for kind in options.images for each in _compare(kind, options)]
    rows = [[shown(each[key]) for key in COLUMNS] for each in figures]
    publish("tuning", about, figures, list(COLUMNS.values()), rows)
    sys.stdout.write(json.dumps({"least_of_best": min(each["of_best"] for each in figures)}) + "\n")
    return 0


if __name__ == "__main__":
    run(main)
