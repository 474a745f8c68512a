"""One run, step by step: measure, predict, check, choose."""

import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from tuning import neighbours
from tuning.advice import advice
from tuning.capacity import Cell, Costs
from tuning.check import Check
from tuning.choice import Sizes
from tuning.computing import Model
from tuning.decoding import Decoders
from tuning.duel import Duel
from tuning.findings import Findings
from tuning.forecast import Forecast, Refused
from tuning.launched import Launched, ServiceFailed
from tuning.plan import LIVE_S, REPLACE_S, START_S, STOP_S, Plan, worker_counts
from tuning.room import Room, available_bytes
from tuning.settings import Settings, written_into
from tuning.subject import Subject
from tuning.throughput import frozen_heap
from tuning.trials import Trials

WAITS: Final = (0.7, 1.4)
"""Times the predicted `max_wait_s` that are tried too."""

PATIENCE_S: Final = 1.0
"""What requests may wait while the peak is measured."""

HALVINGS: Final = 3
"""Of the load, at most, until the answers are in time."""

IN_TIME: Final = 0.9
"""Of the requests at the lightest load; with fewer the bound cannot be met. In a few seconds 99 % cannot be told."""


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the run."""

    title: str
    seconds: float  # about
    act: Callable[[], None]


class Tuning:
    """A context manager: its end waits until nothing that it has started is left.

    Args:
        subject: what is tuned.
        images: encoded, by their names.
        plan: how much is measured.
        findings: filled as it goes on.
    """

    def __init__(self, subject: Subject, images: Mapping[str, bytes], plan: Plan, findings: Findings) -> None:
        self._subject, self._named, self._plan, self.findings = subject, images, plan, findings
        self._images: Sequence[bytes] = ()
        self._decoders = Decoders(subject.config.pipeline, subject.live)
        self._stack = ExitStack()
        self._model: Model
        self._service: Launched
        self._trials: Trials
        self._forecast: Forecast
        self._cell: Cell
        self._base: Settings
        self._duel: Duel | None = None
        self._steps = self._measuring()

    def __enter__(self) -> "Tuning":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, tell: Callable[[str, float], None]) -> None:
        """Everything; the service has then been told to stop.

        Args:
            tell: called before each step with its title and the seconds that are left, about.

        Raises:
            Refused: there are no settings to be had.
            ServerError, ServiceFailed: Darkroom has failed.
        """
        while self._steps:
            step = self._steps[0]
            tell(step.title, sum(step.seconds for step in self._steps))
            self._steps.pop(0)
            step.act()

    # ---- measure ----------------------------------------------------------------------------------------------------

    def _measuring(self) -> list[Step]:
        """What comes later is known in full only when this is done; until then it takes about so long."""
        plan = self._plan
        steps = [
            Step("looking at the images", 3.0, self._read),
            Step("loading the model", 3.0, self._load_model),
            Step("measuring", plan.measuring_s, self._plan_passes),
            Step("predicting", 0.5, self._predict),
            Step("starting the service", START_S, self._start),
            Step("the service's peak", 1.0 + plan.check_s, self._measure_peak),
        ]
        if plan.neighbours:
            steps.append(Step("neighbouring settings", plan.neighbours_s, self._plan_neighbours))
        return [
            *steps,
            Step("choosing", 0.1, self._choose),
            Step("the chosen settings", plan.climb_s, self._climb),
            Step("stopping the service, and the report", STOP_S, self._begin_to_stop),
        ]

    def _read(self) -> None:
        found = self._decoders.readable(self._named)
        self._images, self.findings.unreadable = found.images, [*self.findings.unreadable, *found.faults]
        if not found.images:
            raise Refused(f"no image can be decoded: {found.faults[0]}")
        self.findings.images, self.findings.sizes = len(found.images), Sizes.of(found.images)

    def _load_model(self) -> None:
        subject = self._subject
        lanes = subject.cores if subject.on_cpu else 1
        max_pixels, bound_s = subject.live.max_image_pixels, self.findings.bound_s
        self._model = Model(subject.config.pipeline, lanes, self._images, max_pixels, bound_s)
        self._stack.callback(self._model.close)
        self._stack.enter_context(frozen_heap())
        self.findings.model = f"{subject.config.pipeline.model}, {self._model.dtype}"
        self.findings.costs = Costs(self._decoders.cost, self._model.cost, subject.cores, subject.on_cpu)

    def _plan_passes(self) -> None:
        """All in turn, again and again: the machine drifts, and so all are measured in all of its moods."""
        plan, model = self._plan, self._model
        counts = worker_counts(self._subject.cores, on_cpu=self._subject.on_cpu, quick=plan.passes == 1)
        self._steps[:0] = [
            step
            for _ in range(plan.passes)
            for step in (
                *(self._decoding(workers) for workers in counts),
                Step("decoding, handed over one by one", plan.decoding_s, self._measure_one_by_one),
                *(
                    self._computing(lanes, images)
                    for _ in range(plan.turns)
                    for images in model.sizes
                    for lanes in model.lanes  # these are compared: one right after the other
                ),
            )
        ]

    def _decoding(self, workers: int) -> Step:
        act = partial(self._decoders.measure, workers, self._images, self._plan.decode_s)
        return Step(f"decoding, {_number(workers, 'worker')}", self._plan.decoding_s, act)

    def _measure_one_by_one(self) -> None:
        self._decoders.measure_one_by_one(self._images, self._plan.decode_s)

    def _computing(self, lanes: int, images: int) -> Step:
        act = partial(self._model.measure, lanes, images, self._plan.batch_s)
        beside = f", {lanes} side by side" if lanes > 1 else ""
        return Step(f"the model, batches of {_number(images, 'image')}{beside}", self._plan.batch_s, act)

    # ---- predict ----------------------------------------------------------------------------------------------------

    def _predict(self) -> None:
        subject, findings, costs, sizes = self._subject, self.findings, self.findings.costs, self.findings.sizes
        assert costs is not None  # noqa: S101 - the steps before have seen to it
        assert sizes is not None  # noqa: S101 - likewise
        room = Room(
            available_bytes=available_bytes(),
            replica_bytes=psutil.Process().memory_full_info().uss,
            worker_bytes=costs.decode.worker_bytes,
            crop_px=self._model.crop_px,
            live=subject.live,
        )
        self._expect(Forecast(costs, sizes, subject.live, findings.bound_s, room))
        findings.too_large = self._forecast.left_out()
        self._cell = self._forecast.best()
        findings.predicted = self._forecast.settings(self._cell)

    def _expect(self, forecast: Forecast) -> None:
        self._forecast, self.findings.costs, self.findings.cells = forecast, forecast.costs, forecast.cells

    # ---- check ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """With more patience than it will have: clients that wait for their answers are not to be refused."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="darkroom-tune-")))
        document = self._subject.document
        (application,) = document["applications"]
        written_into(application, replace(self._forecast.settings(self._cell), max_wait_s=PATIENCE_S))
        application["args"]["pipeline"]["dtype"] = self._model.dtype  # found out once; each replica would do it again
        self._service = Launched(folder, document, self._subject.environment)
        self._stack.callback(self._service.stop)
        check = Check(self._service, self._images, self.findings.bound_s, self.findings.seed)
        plan = self._plan
        self._trials = Trials(check, self._model, speed_s=plan.batch_s, check_s=plan.check_s)
        self.findings.seen = self._trials.seen

    def _measure_peak(self) -> None:
        """What HTTP costs shows only in the service: it is what the cores are short of, by its peak."""
        predicted, costs = self._cell, self._forecast.costs
        self._trials.measure_peak(min(256, max(8, 2 * (predicted.lanes * predicted.batch + predicted.workers))))
        self.findings.peak = peak = self._trials.peak
        if not peak:
            raise ServiceFailed("the service that was started answers nothing")
        if peak < predicted.peak:
            model_s = costs.compute.seconds(predicted.lanes, predicted.batch) / predicted.batch if costs.on_cpu else 0.0
            serving_s = max(0.0, costs.cores / peak - costs.decode.alone_s - model_s)
            self._expect_anew(replace(costs, serving_s=serving_s))
        self._base = self._forecast.settings(self._cell)

    def _expect_anew(self, costs: Costs) -> None:
        self._expect(self._forecast.revised(costs))
        self._cell = self._forecast.like(*self._cell.key)

    def _plan_neighbours(self) -> None:
        """Live changes first; those for which a replica is replaced later."""
        base, candidates = self._base, self._forecast.candidates
        live, restarted = (beside(self._cell, candidates) for beside in (neighbours.live, neighbours.restarted))
        batches = [replace(base, batch=neighbour.batch) for neighbour in live]
        waits = [replace(base, max_wait_s=round(base.max_wait_s * factor, 3)) for factor in WAITS]
        replaced = [self._forecast.settings(neighbour) for neighbour in restarted]
        self._steps[:0] = [
            *(self._trial(settings, LIVE_S) for settings in (base, *batches, *waits)),
            *(self._trial(settings, REPLACE_S) for settings in replaced),
            Step("the best of them once more", self._plan.duel_s, self._plan_duel),
        ]

    def _plan_duel(self) -> None:
        base, challenger = self._base, self._trials.best()
        if challenger == base:
            return
        self._duel = Duel(base, challenger)
        apply_s = LIVE_S if challenger.args == base.args else REPLACE_S
        turns = self._duel.turns
        changes = [before != after for before, after in itertools.pairwise([None, *turns])]
        self._steps[:0] = [
            self._trial(each, apply_s if change else 0.0) for each, change in zip(turns, changes, strict=True)
        ]

    def _trial(self, settings: Settings, apply_s: float) -> Step:
        title = (
            f"{_number(settings.workers, 'worker')}, {_number(settings.threads, 'lane')}, batches of {settings.batch}, "
            f"waits up to {1000 * settings.max_wait_s:.0f} ms"
        )
        return Step(title, self._plan.trial_s(apply_s), partial(self._try, settings))

    def _try(self, settings: Settings) -> None:
        self._trials.run(settings)

    def _choose(self) -> None:
        self.findings.chosen = chosen = self._duel.winner(self._trials.score) if self._duel else self._base
        self._cell = self._forecast.like(chosen.workers, chosen.threads, chosen.batch)

    def _climb(self) -> None:
        """The chosen settings, from little to as much as they should bear."""
        chosen, plan, findings, check = self.findings.chosen, self._plan, self.findings, self._trials.check
        assert chosen is not None  # noqa: S101 - likewise
        check.apply(chosen)
        for share in plan.rungs:
            self._offer(share * self._cell.capacity)
        for _ in range(HALVINGS):
            if self._lightest_in_time():
                break
            self._offer(findings.ladder[-1].offered / 2)
        findings.verdict = check.verdict(max(1, int(plan.check_s)))
        if not self._lightest_in_time():
            lightest = min(findings.ladder, key=lambda seen: seen.offered)
            raise Refused(
                f"the best settings found answer only {lightest.good / max(lightest.answered, 1e-9):.0%} within "
                f"{1000 * findings.bound_s:g} ms even where {lightest.offered:.3g} images/s come, and 99 % within "
                f"{1000 * lightest.p99_s:.3g} ms; write a larger --p99-ms"
            )
        findings.advice = advice(self._cell, self._forecast.costs, self._subject.config.pipeline)

    def _offer(self, rate: float) -> None:
        """So many images a second to the chosen settings; what is expected of them follows from what is seen."""
        assert self.findings.chosen is not None  # noqa: S101 - likewise
        seen = self._trials.check.seen(self.findings.chosen, rate, self._plan.check_s)
        self.findings.ladder.append(seen)
        self._expect_anew(replace(self._forecast.costs, spread=self._cell.spread_seen(seen.offered, seen.p99_s)))

    def _lightest_in_time(self) -> bool:
        lightest = min(self.findings.ladder, key=lambda seen: seen.offered)
        return 0 < IN_TIME * lightest.answered <= lightest.good

    def _begin_to_stop(self) -> None:
        self._service.interrupt()


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"
