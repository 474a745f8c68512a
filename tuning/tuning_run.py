"""A run of `darkroom tune`: measure the parts, predict settings, try them on a service, choose, check."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from harness.local_service import LocalService, ServiceFailed
from tuning.advice import advice
from tuning.capacity import Cell
from tuning.clients import MAX_CLIENTS, clients_for, usual_bound_s
from tuning.comparison import compare
from tuning.findings import Findings
from tuning.forecast import Forecast, Refused
from tuning.load_check import LoadCheck
from tuning.measuring import Measuring
from tuning.plan import LIVE_CHANGE_S, REPLICA_REPLACEMENT_S, SERVICE_START_S, SERVICE_STOP_S, Plan
from tuning.proving import Proving
from tuning.replica_memory import ReplicaMemory, available_bytes
from tuning.replica_settings import Settings, written_into
from tuning.sentences import in_words
from tuning.step import Step, number
from tuning.trials import Trials
from tuning.tuned_config import TunedConfig

TRIAL_QUEUE_WAIT_S: Final = 60.0
"""`max_queue_wait_s` while settings are compared, so that nothing is refused."""

ALONE_MULTIPLES: Final = (1, 4, 12)
ALONE_ANSWERS: Final = 3
"""Answers of one client that are waited for, in loads of up to the multiples above."""

PEAK_ESTIMATE_CLIENTS: Final = 16
"""Images in work at a time while the peak is estimated."""

REPLACING_SHARE: Final = 0.6
"""Share of the service's start that replacing its replica takes."""

FULL_CORES_SHARE: Final = 0.9
"""Busy share from which all cores count as used."""


class TuningRun:
    """A run, as a context manager; its end waits until all processes that it started have ended.

    Args:
        tuned: the configuration to tune.
        images: encoded images by name.
        plan: extent of the measurements.
        findings: results, filled during the run.
        others: cores for clients that the service does not use.
    """

    def __init__(
        self,
        tuned: TunedConfig,
        images: Mapping[str, bytes],
        plan: Plan,
        findings: Findings,
        others: frozenset[int] = frozenset(),
    ) -> None:
        self._tuned, self._plan, self.findings, self._others = tuned, plan, findings, others
        self._stack = ExitStack()
        self._measuring = Measuring(tuned, images, plan, findings, self._stack, self._before_all)
        self._service: LocalService
        self._trials: Trials
        self._forecast: Forecast
        self._cell: Cell
        self._proof: Proving | None = None
        self._replace_s = REPLICA_REPLACEMENT_S
        self._steps = self._all()
        self._present = replace(tuned.present, max_queue_wait_s=TRIAL_QUEUE_WAIT_S)
        findings.present, findings.others_cores = tuned.present, len(others)

    def __enter__(self) -> "TuningRun":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, tell: Callable[[str, float], None]) -> None:
        """Run all steps; the service has been told to stop when this returns.

        Args:
            tell: called before each step with its title and the estimated seconds left.

        Raises:
            Refused: no settings can be recommended.
            ServerError, ServiceFailed: Darkroom has failed.
        """
        while self._steps:
            step = self._steps[0]
            tell(step.title, sum(step.seconds for step in self._steps))
            self._steps.pop(0)
            step.act()

    def _all(self) -> list[Step]:
        """List all steps; some add others when they run, and until then have an estimated duration."""
        plan = self._plan
        steps = [
            *self._measuring.steps,
            Step("predicting the best settings", 0.5, self._predict),
            Step("starting the service with the present settings", SERVICE_START_S, self._start),
            Step("one client alone", plan.check_s, self._measure_alone),
            Step("the present settings at full load", 1.0 + plan.check_s, self._measure_full),
            Step("comparing settings", plan.comparing_s, self._plan_trials),
        ]
        if self.findings.asked_s is not None:
            steps.append(Step("the bound", plan.holding_s, self._hold))
        return [
            *steps,
            Step("running the settings as they will be written", LIVE_CHANGE_S + plan.check_s, self._prove),
            Step("stopping the service, and the report", SERVICE_STOP_S, self._begin_to_stop),
        ]

    def _before_all(self, steps: Sequence[Step]) -> None:
        self._steps[:0] = steps

    # ---- predict ----------------------------------------------------------------------------------------------------

    def _predict(self) -> None:
        tuned, findings, costs, sizes = self._tuned, self.findings, self.findings.costs, self.findings.sizes
        assert costs is not None  # noqa: S101 - the steps before have seen to it
        assert sizes is not None  # noqa: S101 - likewise
        memory = ReplicaMemory(
            available_bytes=available_bytes(),
            replica_bytes=psutil.Process().memory_full_info().uss,
            worker_bytes=costs.decode.worker_bytes,
            input_bytes=self._measuring.model.spec.nbytes,
            live=tuned.live,
            spare_workers=tuned.config.pipeline.spare_workers,
        )
        alone_s = costs.decode.alone_s + costs.compute.seconds(1, costs.compute.sizes[0])
        findings.bound_s = findings.asked_s or usual_bound_s(findings.images_per_request * alone_s)
        self._expect(Forecast(costs, sizes, self._present, findings.bound_s, memory))
        findings.too_large = self._forecast.left_out()
        self._choose_cell()

    def _expect(self, forecast: Forecast) -> None:
        self._forecast, self.findings.costs, self.findings.cells = forecast, forecast.costs, forecast.cells

    def _choose_cell(self) -> None:
        self._cell = self._forecast.best()
        self.findings.predicted = self._forecast.settings(self._cell)

    # ---- try on the service -----------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Start the service with the present settings."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="darkroom-tune-")))
        document, plan, findings = self._tuned.document, self._plan, self.findings
        (application,) = document["applications"]
        written_into(application, self._present)
        # Found out once, not by each replica.
        application["args"].setdefault("pipeline", {})["dtype"] = self._measuring.model.dtype
        began_at = time.monotonic()
        self._service = LocalService(folder, document, self._tuned.environment)
        self._replace_s = max(REPLICA_REPLACEMENT_S, REPLACING_SHARE * (time.monotonic() - began_at))
        self._stack.callback(self._service.stop)
        check = LoadCheck(
            self._service,
            self._measuring.images,
            findings.bound_s,
            findings.seed,
            images_per_request=findings.images_per_request,
            others=self._others,
        )
        self._trials = Trials(check, self._measuring.model, speed_s=plan.batch_s, check_s=plan.check_s)
        findings.trials = self._trials.seen

    def _measure_alone(self) -> None:
        """Measure one client alone, which sets the default bound."""
        findings, trials = self.findings, self._trials
        for times in ALONE_MULTIPLES:
            findings.alone = alone = trials.check.closed_loop(self._present, 1, times * self._plan.check_s)
            if alone.requests >= ALONE_ANSWERS:
                break
        if not alone.answered:
            raise ServiceFailed(
                f"the service that was started gave no prediction to {number(alone.requests, 'request')} in "
                f"{ALONE_MULTIPLES[-1] * self._plan.check_s:g} s ({trials.check.last_others or 'no answer'})"
            )
        if findings.asked_s is None:
            trials.check.bound_s = findings.bound_s = usual_bound_s(alone.p50_s)
        trials.last(1 / alone.p50_s)

    def _measure_full(self) -> None:
        """Measure the present settings at full load, and the costs of the service beside its parts."""
        findings, trials, images_per_request = self.findings, self._trials, self.findings.images_per_request
        roughly = trials.check.closed_loop(
            self._present, max(2, PEAK_ESTIMATE_CLIENTS // images_per_request), trials.check_s / 2
        )
        requests_s = max(roughly.answered, findings.alone.answered if findings.alone else 0.0) / images_per_request
        trials.check.expected = requests_s * images_per_request
        # More clients would only wait longer; no more requests would be answered.
        full_s = usual_bound_s(findings.alone.p50_s if findings.alone else 0.0)
        trials.clients_full = clients_for(full_s, requests_s, self._most_clients)
        trials.clients_within = min(trials.clients_full, clients_for(findings.bound_s, requests_s, self._most_clients))
        trials.last(requests_s)
        full = trials.run(self._present).full
        self._note_serving_costs(full.answered)

    @property
    def _most_clients(self) -> int:
        """The most clients whose requests a replica may hold in memory."""
        assert self.findings.sizes is not None  # noqa: S101 - likewise
        request_bytes = self.findings.images_per_request * self.findings.sizes.mean
        return max(1, min(MAX_CLIENTS, int(self._present.max_bytes_in_flight / (2 * request_bytes))))

    def _note_serving_costs(self, peak: float) -> None:
        """Compute the costs that show only in the service, mostly HTTP, and predict again."""
        busy, costs, cell = self._trials.check.busy(int(self._trials.check_s)), self._forecast.costs, self._cell
        if not peak:
            return
        here = self._forecast.nearest(self._present)
        model_s = costs.compute.seconds(here.concurrent_batches, here.batch) / here.batch if costs.on_cpu else 0.0
        used = costs.cores * (1.0 if busy.cores >= FULL_CORES_SHARE else busy.cores)
        serving_s = max(0.0, used / peak - costs.decode.alone_s - model_s)
        self._expect(
            self._forecast.revised(replace(costs, serving_s=serving_s, loop_s=max(0.0, busy.event_loop / peak)))
        )
        try:
            self._choose_cell()
        except Refused:  # by what is expected; the service itself shows it below
            self._cell = self._forecast.nearest(self._forecast.settings(cell))

    def _plan_trials(self) -> None:
        """Plan the trials of the present settings, which are in force, and of the predicted ones if they differ."""
        predicted, runs = self._forecast.settings(self._cell), self._plan.runs
        turns = [self._present] * (runs - 1) + ([predicted] * runs if self._differ(predicted) else [])
        self._before_all([*self._in_turn(turns), Step("choosing", 0.1, self._choose)])

    def _differ(self, settings: Settings) -> bool:
        """Return whether settings differ from the present ones in effect: batches never get larger than helps."""
        here = self._forecast.nearest(self._present)
        return self._forecast.nearest(settings).key != here.key or settings.args != self._present.args

    def _in_turn(self, turns: Sequence[Settings]) -> list[Step]:
        """Plan a step for each of the settings; a change of `args` replaces the replica."""
        steps, before = [], self._trials.seen[-1].settings
        for each in turns:
            apply_s = 0.0 if each == before else LIVE_CHANGE_S if each.args == before.args else self._replace_s
            loads = 2 if self._trials.clients_full != self._trials.clients_within else 1
            seconds = apply_s + loads * (self._plan.trial_s - self._plan.check_s + self._trials.check_s)
            steps.append(Step(f"trying {in_words(each)}", seconds, partial(self._try, each)))
            before = each
        return steps

    def _try(self, settings: Settings) -> None:
        self._trials.run(settings)

    # ---- choose, and prove ------------------------------------------------------------------------------------------

    def _choose(self) -> None:
        """Choose the predicted settings where their trials were better than those of the present ones."""
        findings, trials = self.findings, self._trials
        findings.chosen = self._present
        if (last := trials.seen[-1].settings) != self._present:
            findings.predicted = last
            findings.comparison = compare(trials.of(self._present), trials.of(last))
            if findings.comparison.is_better:
                findings.chosen = last
        self._cell = self._forecast.nearest(findings.chosen)
        findings.advice = advice(self._cell, self._forecast.costs, self._tuned.config.pipeline)

    def _hold(self) -> None:
        """Plan the search for the loads within the bound."""
        self._before_all(self._proving().holding())

    def _prove(self) -> None:
        """Check the settings as they will be written."""
        self._proving().prove(self._tuned.present)

    def _proving(self) -> Proving:
        if self._proof is None:
            trials = self._trials
            self._proof = Proving(trials.check, self.findings, trials.check_s, self._most_clients, self._before_all)
        return self._proof

    def _begin_to_stop(self) -> None:
        self._service.interrupt()
