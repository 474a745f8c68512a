"""Tests of trying settings on the running service."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from deployments.local.endpoint import read_endpoint
from deployments.monitoring.bottleneck import State
from harness.local_service import LocalService
from harness.photographs import jpeg, photograph
from pipeline.config import PipelineConfig
from tests.support.quick_model import QUICK_MODEL
from tests.support.running_service import Service, live_settings
from tests.support.waiting import until
from tests.tuning.measured import BOUND_S, PRESENT
from tuning.computing import MeasuredModel
from tuning.load_check import Busy, LoadCheck
from tuning.replica_settings import Settings
from tuning.trials import Trials
from tuning.written_limits import proved, with_limits

CAT = jpeg(photograph("cat"))


def _live(service: Service, **user_config: Any) -> Settings:
    """Return the service's own settings with other live values, so that no replica is replaced."""
    args = service.info()["args"]
    pipeline = args["pipeline"]
    return replace(
        PRESENT,
        **{name: pipeline[name] for name in ("decode_workers", "concurrent_batches", "chunk_bytes", "slots")},
        batch_sizes=tuple(pipeline["batch_sizes"]),
        max_ongoing_requests=args["max_ongoing_requests"],
        num_cpus=args["num_cpus"],
        **user_config,
    )


class _Running:
    """The suite's service in the form of a `LocalService`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.document, self.endpoint = copy.deepcopy(service.config), read_endpoint(service.path)
        self.info = service.info
        args = self.document["applications"][0]["args"]
        running = service.info()["args"]
        args["num_cpus"] = running["num_cpus"]
        args["pipeline"].update(
            {name: running["pipeline"][name] for name in ("decode_workers", "concurrent_batches", "chunk_bytes")}
        )  # the values that hold without being written

    def deploy(self, document: dict[str, Any]) -> None:
        """Apply only live values, because deploying written-out defaults would replace the replica."""
        live = copy.deepcopy(self._service.config)
        (deployment,) = live["applications"][0]["deployments"]
        (wanted,) = document["applications"][0]["deployments"]
        deployment["user_config"] = wanted["user_config"]
        self._service.deploy(live)


@pytest.fixture
def check(service: Service) -> Iterator[LoadCheck]:
    """Return a load check of a service, which has its own settings again afterwards."""
    yield LoadCheck(cast(LocalService, _Running(service)), [CAT], BOUND_S, seed=1)
    service.deploy(service.config)
    until(lambda: bool(service.info()["user_config"] == live_settings(service.application)))


def test_settings_are_tried_on_a_service_that_runs(service: Service, check: LoadCheck) -> None:
    """Settings are in force before any load is sent; answered, refused and late requests are then counted."""
    check.apply(patient := _live(service, batch=4, max_queue_wait_s=60.0))
    assert service.info()["user_config"]["max_batch_size"] == 4
    seen = check.open_loop(patient, 10.0, 1.0)
    assert (seen.settings, seen.clients, seen.lost, seen.refused) == (patient, 0, 0, 0)
    assert seen.p50_s <= seen.p99_s <= seen.longest_s
    assert 0 < seen.answered <= seen.offered

    model = MeasuredModel(
        PipelineConfig(model=QUICK_MODEL, device="cpu", runtime="torch"), 2, [CAT], 50_000_000, BOUND_S
    )
    model.measure(2, 1, 0.3)
    trials = Trials(check, model, speed_s=0.1, check_s=1.0)
    trials.clients_within, trials.clients_full = 1, 4
    trial = trials.run(patient)
    assert (trial.within.clients, trial.full.clients) == (1, 4)
    assert trial.full.refused == trial.full.lost == 0
    assert 0 < trial.within.good <= trial.within.answered
    assert 0 < trial.speed != 1.0
    hasty = replace(patient, max_queue_wait_s=0.001)
    assert (trials.of(patient), trials.of(hasty)) == ([trial], [])

    check.apply(hasty)
    assert check.open_loop(hasty, 8 * trial.full.answered, 1.0).refused > 0
    assert "503" in check.last_others
    assert check.verdict(5).split(":")[0] in list(State)
    assert 0 < check.busy(5).event_loop <= 1


def test_what_a_closed_loop_waits_is_let_in(service: Service, check: LoadCheck) -> None:
    """The written settings refuse none of the measured clients, however short the present wait is."""
    patient = _live(service, max_queue_wait_s=60.0)
    check.apply(patient)
    seen = check.closed_loop(patient, 12, 1.0)
    written = with_limits(patient, replace(patient, max_queue_wait_s=0.001), seen, images_per_request=1, asked_s=0.001)
    settings, proof = proved(check, replace(written, max_ongoing_requests=patient.max_ongoing_requests), 12, 1.0)
    assert (proof.refused, proof.lost) == (0, 0)
    assert proof.answered > 0
    assert service.info()["user_config"]["max_queue_wait_s"] == settings.max_queue_wait_s < 60


def test_a_service_that_does_not_answer_has_no_verdict(service: Service) -> None:
    """A service that does not answer has no verdict and no figures."""
    nowhere = SimpleNamespace(
        document=service.config, endpoint=replace(read_endpoint(service.path), port=1), info=lambda: _fail()
    )
    check = LoadCheck(cast(LocalService, nowhere), [CAT], BOUND_S, seed=1)
    assert check.verdict(1) == ""
    assert check.busy(1) == Busy()


def test_requests_may_have_several_images(service: Service) -> None:
    """With several images in a request, rates count images; a failed image among them counts as answered."""
    running = cast(LocalService, _Running(service))
    check = LoadCheck(running, [CAT], BOUND_S, seed=1, images_per_request=3)
    seen = check.closed_loop(PRESENT, 1, 1.0)
    assert (seen.refused, seen.lost) == (0, 0)
    assert seen.answered == pytest.approx(3 * seen.requests, rel=0.01)


def _fail() -> None:
    raise httpx.ConnectError("nobody is there")
