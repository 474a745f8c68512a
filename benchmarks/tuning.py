"""Whether `darkroom tune` chooses well: its choices beside every setting of a grid. `make tuning` runs it.

The command itself runs twice a seed, in full and with `--quick`; the seed decides what images it sees and when requests
come. Then one service is given every combination of workers, lanes and batch sizes, all else as the first run has
chosen it, and the settings as they were before; clients that wait for their answers send it as much as the bound
allows, and what it answers within the bound is counted.

Of so many noisy figures the greatest is one that had luck. So the better ones of the grid are measured twice more,
and the best few of these, all that was chosen and what was there before anew and in turn, many times over. A choice is
judged by these last alone: the share of the best one's answers that it reaches. Which one is the best in one half of
the rounds is told by the other half, for the same reason.
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
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks import table
from benchmarks.command import RESULTS, circumstances, run, say, write
from benchmarks.work import SMALL_ALONE
from deployments.config import ServiceConfig
from deployments.node import Node
from harness.local_service import Document, LocalService
from harness.ports import apart, free_port
from harness.repository import ROOT
from tuning.check import Check
from tuning.clients import clients_for, usual_bound_s
from tuning.computing import Model
from tuning.settings import Settings, written_into
from tuning.subject import subject_of
from tuning.trials import Trial, Trials
from tuning.tuning import ROUGHLY_CLIENTS

WORKERS: Final = (1, 2, 3)
LANES: Final = (1, 2)
BATCHES: Final = (1, 2, 4, 8)
PATIENCE_S: Final = 60.0
BETTER: Final = 12
FINALISTS: Final = 4
CHECK_S: Final = 4.0
FINAL_S: Final = 8.0
SPEED_S: Final = 0.4
RUNS: Final[Mapping[str, Sequence[str]]] = {"full": (), "quick": ("--quick",)}
"""Kinds of runs, and the options that they have."""

HEADER: Final = (
    "settings",
    *(f"chosen by {kind} runs" for kind in RUNS),
    "images/s in time",
    "standard error",
    "of the best",
    "of those before",
    "in the grid, images/s in time",
)

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """The choice of one run of the command, and how long that took."""

    kind: str
    seed: int
    settings: Settings
    took_s: float


def settings_of(document: Document) -> Settings:
    """Settings of a configuration with a bound on waiting that refuses nothing while they are compared."""
    (application,) = document["applications"]
    subject = subject_of(document, application, {})
    return replace(subject.present, max_wait_s=PATIENCE_S)


def shipped() -> Document:
    """The configuration as it is shipped, on a free port and with one replica."""
    document: Document = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    document["http_options"]["port"] = free_port()
    document["applications"][0]["deployments"][0]["autoscaling_config"]["max_replicas"] = 1
    return document


def chosen_by(kind: str, seed: int, folder: Path, p99_ms: float | None) -> Choice:
    """Runs the command on a configuration of its own; returns what that comes to then."""
    config = folder / f"tuned-{kind}-{seed}.yaml"
    config.write_text(yaml.safe_dump(shipped()))
    command = [sys.executable, "-m", "commands.main", "tune", "--images", str(folder / "images"), "--write"]
    named = ["--config", str(config), "--report", str(folder / "report.html"), "--seed", str(seed)]
    bound = [] if p99_ms is None else ["--p99-ms", f"{p99_ms:g}"]
    began_at = time.monotonic()
    done = subprocess.run([*command, *named, *bound, *RUNS[kind]], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"darkroom tune has ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    took_s = time.monotonic() - began_at
    return Choice(kind, seed, settings_of(yaml.safe_load(config.read_text())), took_s)


def grid(usual: Settings) -> list[Settings]:
    """All combinations; all else as usual."""
    return [
        replace(usual, workers=workers, threads=lanes, batch=batch)
        for workers, lanes, batch in itertools.product(WORKERS, LANES, BATCHES)
    ]


def judged_as(settings: Settings, usual: Settings) -> Settings:
    """Its workers, lanes and batches, all else as usual; a batch that is never filled is the largest of the grid."""
    return replace(usual, workers=settings.workers, threads=settings.threads, batch=min(settings.batch, BATCHES[-1]))


def in_short(settings: Settings) -> str:
    """The settings that are compared."""
    return f"{settings.workers} workers, {settings.threads} lanes, batches of {settings.batch}"


def measured(
    judged: Collection[Settings],
    usual: Settings,
    folder: Path,
    images: Sequence[bytes],
    rounds: int,
    asked_s: float | None,
) -> tuple[Trials, Trials]:
    """The whole grid once, and the better ones of it again; then the best and all that is judged, in turn."""
    document = shipped()
    config = ServiceConfig.model_validate(document["applications"][0]["args"]).fitted([Node(cpus=2.0)]).pipeline
    model = Model(config, 2, images, 50_000_000, asked_s)
    for _ in range(3):
        model.measure(2, model.sizes[0], 1.0)  # what speeds are a multiple of
    everything = grid(usual)
    written_into(document["applications"][0], usual)
    service = LocalService(folder, document, apart())
    try:
        check = Check(service, images, asked_s or 1.0, seed=100)
        alone = check.closed(usual, 1, CHECK_S)
        check.bound_s = asked_s or usual_bound_s(alone.p50_s)
        clients = clients_for(check.bound_s, check.closed(usual, ROUGHLY_CLIENTS, CHECK_S).answered)
        say(f"{clients} clients, in {check.bound_s:g} s; an image alone takes {alone.p50_s:.4f} s")
        first, final = (Trials(check, model, speed_s=SPEED_S, check_s=check_s) for check_s in (CHECK_S, FINAL_S))
        for trials in (first, final):
            trials.clients_within = trials.clients_full = clients
        _in_turn(first, everything, 1)
        _in_turn(first, sorted(everything, key=first.score, reverse=True)[:BETTER], 2)
        best = sorted(everything, key=first.score, reverse=True)[:FINALISTS]
        _in_turn(final, {*best, *judged}, rounds)
    finally:
        service.stop()
    return first, final


def _in_turn(trials: Trials, settings: Collection[Settings], rounds: int) -> None:
    """Those together for which no replica has to be replaced, and now forwards and now backwards."""
    ordered = sorted(settings, key=lambda each: (each.workers, each.threads))
    for turn in range(rounds):
        for each in ordered[:: -1 if turn % 2 else 1]:
            trial = trials.run(each)
            say(f"{in_short(each)}: {trial.within.good:.1f} (speed {trial.speed:.2f})")


def rows(
    choices: Sequence[Choice], judged: Sequence[Settings], before: Settings, first: Trials, final: Trials
) -> list[list[str]]:
    """The table's rows, the best first; `judged` stand for the choices."""
    finalists = sorted(_finalists(final), key=final.score, reverse=True)
    counts = Counter((choice.kind, settings) for choice, settings in zip(choices, judged, strict=True))
    return [
        [
            f"{in_short(settings)}{' (as it was before)' if settings == before else ''}",
            *(str(counts[kind, settings]) for kind in RUNS),
            f"{final.score(settings):.1f}",
            f"{_error(final, settings):.1f}",
            f"{of_best(final, settings):.2f}",
            f"{final.score(settings) / final.score(before):.2f}",
            f"{score:.1f}" if (score := first.score(settings)) else "",
        ]
        for settings in finalists
    ]


def of_best(final: Trials, settings: Settings) -> float:
    """The share of the best one's answers in time that it reaches, on average over both halves of the rounds."""
    finalists = _finalists(final)
    rounds = [final.seen[at : at + len(finalists)] for at in range(0, len(final.seen), len(finalists))]
    shares = []
    for judging, telling in ((rounds[::2], rounds[1::2]), (rounds[1::2], rounds[::2])):
        best = max(finalists, key=partial(_score, telling))
        shares.append(_score(judging, settings) / _score(judging, best))
    return statistics.fmean(shares)


def _finalists(final: Trials) -> set[Settings]:
    return {trial.settings for trial in final.seen}


def _score(rounds: Sequence[Sequence[Trial]], settings: Settings) -> float:
    return statistics.fmean(trial.within.good for one in rounds for trial in one if trial.settings == settings)


def _error(trials: Trials, settings: Settings) -> float:
    scores = trials.scores(settings)
    return statistics.stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else math.inf


def _summary(choices: Sequence[Choice], shares: Sequence[float]) -> Facts:
    took_s = [choice.took_s for choice in choices]
    return {
        "at_least_95_percent": sum(share >= 0.95 for share in shares),
        "median_of_best": statistics.median(shares),
        "median_took_s": statistics.median(took_s),
        "longest_took_s": max(took_s),
    }


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=12, help="of the final, at least 2 (12)")
    parser.add_argument("--p99-ms", type=float, help="the bound that the command is given (none)")
    options = parser.parse_args(arguments)
    asked_s = None if options.p99_ms is None else options.p99_ms / 1000
    about, images = circumstances("benchmarks.tuning", arguments), replace(SMALL_ALONE, variants=16).images
    with tempfile.TemporaryDirectory(prefix="tuning-") as scratch:
        folder = Path(scratch)
        (folder / "images").mkdir()
        for number, image in enumerate(images):
            (folder / "images" / f"{number}.jpg").write_bytes(image)
        choices = []
        for seed, kind in itertools.product(range(options.seeds), RUNS):
            choice = chosen_by(kind, seed, folder, options.p99_ms)
            choices.append(choice)
            say(f"{kind} run, seed {seed}, {choice.took_s:.0f} s: {in_short(choice.settings)}")
        usual = replace(settings_of(shipped()), batch_sizes=BATCHES, batch=BATCHES[-1])
        judged, before = [judged_as(choice.settings, usual) for choice in choices], judged_as(usual, usual)
        first, final = measured({*judged, before}, usual, folder, images, options.rounds, asked_s)
    shares = {choice: of_best(final, settings) for choice, settings in zip(choices, judged, strict=True)}
    kinds = {kind: [choice for choice in choices if choice.kind == kind] for kind in RUNS}
    result = {kind: _summary(alike, [shares[choice] for choice in alike]) for kind, alike in kinds.items()}
    seeds = [{**asdict(choice), "of_best": share} for choice, share in shares.items()]
    trials = [
        {
            "part": part,
            "settings": in_short(trial.settings),
            "good": trial.within.good,
            "speed": trial.speed,
            "p99_s": trial.within.p99_s,
        }
        for part, run_of in (("grid", first), ("final", final))
        for trial in run_of.seen
    ]
    found = rows(choices, judged, before, first, final)
    name = "tuning" if asked_s is None else f"tuning-{options.p99_ms:g}ms"
    write(RESULTS / name, [about, result, *seeds, *trials], table.markdown(HEADER, found))
    sys.stdout.write(table.text(HEADER, found))
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    run(main)
