"""Whether `darkroom tune` chooses well: its choices beside every setting of a grid. `make tuning` runs it.

The command itself runs twice a seed, in full and with `--quick`; the seed decides what images it sees and when requests
come. Then one service is given every combination of workers, lanes, batch sizes and waits, all else as the first run
has chosen it, with more coming than fits, and what it answers within the bound is counted.

Of so many noisy figures the greatest is one that had luck. So the better ones of the grid are measured twice more,
and the best few of these and all that was chosen anew and in turn, many times over. A choice is judged by these last
alone: the share of the best one's answers that it reaches. Which one is the best in one half of the rounds is told by
the other half, for the same reason. Choices that differ in their wait alone stand for each other there, by the one in
their middle. All figures are put on one speed of the machine, which is measured beside each.
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
from benchmarks.ports import apart, free_port
from benchmarks.servers import ROOT
from benchmarks.work import SMALL_ALONE
from deployments.config import ServiceConfig
from deployments.node import Node
from tuning.check import Check, Seen
from tuning.computing import Model
from tuning.launched import Document, Launched
from tuning.settings import Settings, written_into
from tuning.trials import Trials

WORKERS: Final = (1, 2, 3)
LANES: Final = (1, 2)
BATCHES: Final = (1, 2, 4, 8)
WAITS_S: Final = (0.03, 0.045, 0.06)
BOUND_S: Final = 0.1
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
    "in time/s",
    "standard error",
    "of the best",
    "in the grid, in time/s",
)

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """What one run of the command has chosen, and how long it took."""

    kind: str
    seed: int
    settings: Settings
    took_s: float


def settings_of(application: Document) -> Settings:
    """Those that an application of a tuned configuration has."""
    args, user_config = application["args"], application["deployments"][0]["user_config"]
    pipeline = args["pipeline"]
    return Settings(
        workers=pipeline["workers"],
        threads=pipeline["threads"],
        batch=user_config["max_batch_size"],
        batch_sizes=tuple(pipeline["batch_sizes"]),
        chunk_bytes=pipeline["chunk_bytes"],
        slots=pipeline["slots"],
        batch_wait_s=user_config["batch_wait_s"],
        max_wait_s=user_config["max_wait_s"],
        max_ongoing_requests=args["max_ongoing_requests"],
        max_bytes_in_flight=user_config["max_bytes_in_flight"],
        target_ongoing_requests=application["deployments"][0]["autoscaling_config"]["target_ongoing_requests"],
        num_cpus=args["num_cpus"],
    )


def shipped() -> Document:
    """The configuration, on a free port and with one replica."""
    document: Document = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    document["http_options"]["port"] = free_port()
    document["applications"][0]["deployments"][0]["autoscaling_config"]["max_replicas"] = 1
    return document


def chosen_by(kind: str, seed: int, folder: Path) -> Choice:
    """What the command writes into a configuration of its own."""
    config = folder / f"tuned-{kind}-{seed}.yaml"
    config.write_text(yaml.safe_dump(shipped()))
    command = [sys.executable, "-m", "commands.main", "tune", "--images", str(folder / "images"), "--write"]
    named = ["--config", str(config), "--report", str(folder / "report.html"), "--seed", str(seed)]
    bound = ["--p99-ms", f"{1000 * BOUND_S:g}", *RUNS[kind]]
    began_at = time.monotonic()
    done = subprocess.run([*command, *named, *bound], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"darkroom tune has ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    took_s = time.monotonic() - began_at
    return Choice(kind, seed, settings_of(yaml.safe_load(config.read_text())["applications"][0]), took_s)


def grid(usual: Settings) -> list[Settings]:
    """All combinations; all else as usual."""
    return [
        replace(usual, workers=workers, threads=lanes, batch=batch, max_wait_s=wait_s)
        for workers, lanes, batch, wait_s in itertools.product(WORKERS, LANES, BATCHES, WAITS_S)
    ]


def standing_for(chosen: Sequence[Settings], usual: Settings) -> list[Settings]:
    """For each choice the one in the middle of those with the same workers, lanes and batches; all else as usual."""

    def like(each: Settings) -> list[Settings]:
        alike = [other for other in chosen if _cell(other) == _cell(each)]
        return sorted(alike, key=lambda other: other.max_wait_s)

    return [
        replace(usual, workers=each.workers, threads=each.threads, batch=each.batch, max_wait_s=middle.max_wait_s)
        for each in chosen
        for middle in [like(each)[len(like(each)) // 2]]
    ]


def _cell(settings: Settings) -> tuple[int, int, int]:
    return settings.workers, settings.threads, settings.batch


def in_short(settings: Settings) -> str:
    """What differs between settings."""
    return (
        f"{settings.workers} workers, {settings.threads} lanes, batches of {settings.batch}, "
        f"waits up to {1000 * settings.max_wait_s:.0f} ms"
    )


def measured(
    chosen: Sequence[Settings], usual: Settings, folder: Path, images: Sequence[bytes], rounds: int
) -> tuple[Trials, Trials]:
    """The whole grid once, and the better ones of it again; then the best and all that was chosen, in turn."""
    document = shipped()
    config = ServiceConfig.model_validate(document["applications"][0]["args"]).fitted([Node(cpus=2.0)]).pipeline
    model = Model(config, 2, images, 50_000_000, BOUND_S)
    for _ in range(3):
        model.measure(2, model.sizes[0], 1.0)  # what speeds are a multiple of
    everything = grid(usual)
    written_into(document["applications"][0], replace(everything[0], max_wait_s=1.0))
    service = Launched(folder, document, apart())
    try:
        check = Check(service, images, BOUND_S, seed=100)
        first, final = (Trials(check, model, speed_s=SPEED_S, check_s=check_s) for check_s in (CHECK_S, FINAL_S))
        check.apply(replace(everything[0], threads=2, max_wait_s=1.0))
        first.measure_peak(8)
        final.peak = first.peak
        say(f"peak {first.peak:.1f}")
        _in_turn(first, everything, 1)
        _in_turn(first, sorted(everything, key=first.score, reverse=True)[:BETTER], 2)
        best = sorted(everything, key=first.score, reverse=True)[:FINALISTS]
        _in_turn(final, {*best, *chosen}, rounds)
    finally:
        service.stop()
    return first, final


def _in_turn(trials: Trials, settings: Collection[Settings], rounds: int) -> None:
    """Those together for which no replica has to be replaced, and now forwards and now backwards."""
    ordered = sorted(settings, key=lambda each: (each.workers, each.threads))
    for turn in range(rounds):
        for each in ordered[:: -1 if turn % 2 else 1]:
            seen = trials.run(each)
            say(f"{in_short(each)}: {seen.good / seen.speed:.1f} (speed {seen.speed:.2f})")


def rows(choices: Sequence[Choice], judged: Sequence[Settings], first: Trials, final: Trials) -> list[list[str]]:
    """The table's rows, the best first; `judged` stand for the choices."""
    finalists = sorted(_finalists(final), key=final.score, reverse=True)
    counts = Counter((choice.kind, settings) for choice, settings in zip(choices, judged, strict=True))
    return [
        [
            in_short(settings),
            *(str(counts[kind, settings]) for kind in RUNS),
            f"{final.score(settings):.1f}",
            f"{_error(final, settings):.1f}",
            f"{of_best(final, settings):.2f}",
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
    return {seen.settings for seen in final.seen}


def _score(rounds: Sequence[Sequence[Seen]], settings: Settings) -> float:
    return statistics.fmean(seen.good / seen.speed for one in rounds for seen in one if seen.settings == settings)


def _error(trials: Trials, settings: Settings) -> float:
    scores = [seen.good / seen.speed for seen in trials.seen if seen.settings == settings]
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
    options = parser.parse_args(arguments)
    about, images = circumstances("benchmarks.tuning", arguments), replace(SMALL_ALONE, variants=16).images
    with tempfile.TemporaryDirectory(prefix="tuning-") as scratch:
        folder = Path(scratch)
        (folder / "images").mkdir()
        for number, image in enumerate(images):
            (folder / "images" / f"{number}.jpg").write_bytes(image)
        choices = []
        for seed, kind in itertools.product(range(options.seeds), RUNS):
            choice = chosen_by(kind, seed, folder)
            choices.append(choice)
            say(f"{kind} run, seed {seed}, {choice.took_s:.0f} s: {in_short(choice.settings)}")
        usual = replace(choices[0].settings, batch_sizes=BATCHES, slots=128)
        judged = standing_for([choice.settings for choice in choices], usual)
        first, final = measured(judged, usual, folder, images, options.rounds)
    shares = {choice: of_best(final, settings) for choice, settings in zip(choices, judged, strict=True)}
    kinds = {kind: [choice for choice in choices if choice.kind == kind] for kind in RUNS}
    result = {kind: _summary(alike, [shares[choice] for choice in alike]) for kind, alike in kinds.items()}
    seeds = [{**asdict(choice), "of_best": share} for choice, share in shares.items()]
    trials = [
        {"part": part, "settings": in_short(seen.settings), "good": seen.good, "speed": seen.speed, "p99_s": seen.p99_s}
        for part, run_of in (("grid", first), ("final", final))
        for seen in run_of.seen
    ]
    found = rows(choices, judged, first, final)
    write(RESULTS / "tuning", [about, result, *seeds, *trials], table.markdown(HEADER, found))
    sys.stdout.write(table.text(HEADER, found))
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    run(main)
