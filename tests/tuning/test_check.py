"""Settings held against the running service."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from benchmarks.photographs import jpeg, photograph
from deployments.config import LiveConfig
from deployments.endpoint import read_endpoint
from deployments.verdict import State
from pipeline.config import PipelineConfig
from tests.service import Service
from tests.tuning.measured import BOUND_S, best_of, costs
from tests.waiting import until
from tuning.check import Check
from tuning.choice import Sizes, settings_for
from tuning.computing import Model
from tuning.launched import Launched
from tuning.settings import Settings
from tuning.trials import Trials

CAT = jpeg(photograph("cat"))


def _live(service: Service, **user_config: Any) -> Settings:
    """What the service has, so that no replica is replaced, but for what changes live."""
    args = service.info()["args"]
    pipeline = args["pipeline"]
    chosen = settings_for(best_of(costs()), costs(), Sizes(60_000, 60_000), LiveConfig(), BOUND_S)
    return replace(
        chosen,
        **{name: pipeline[name] for name in ("workers", "threads", "chunk_bytes", "slots")},
        batch_sizes=tuple(pipeline["batch_sizes"]),
        max_ongoing_requests=args["max_ongoing_requests"],
        num_cpus=args["num_cpus"],
        **user_config,
    )


class _Running:
    """The suite's service, as `Launched` would have it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.document, self.endpoint = copy.deepcopy(service.config), read_endpoint(service.path)
        self.info = service.info
        args = self.document["applications"][0]["args"]
        running = service.info()["args"]
        args["num_cpus"] = running["num_cpus"]
        args["pipeline"].update(
            {name: running["pipeline"][name] for name in ("workers", "threads", "chunk_bytes")}
        )  # as they are without being written

    def deploy(self, document: dict[str, Any]) -> None:
        """Only what changes live: to write down what holds anyhow would replace the replica."""
        live = copy.deepcopy(self._service.config)
        (deployment,) = live["applications"][0]["deployments"]
        (wanted,) = document["applications"][0]["deployments"]
        deployment["user_config"] = wanted["user_config"]
        self._service.deploy(live)


@pytest.fixture
def check(service: Service) -> Iterator[Check]:
    """For a service that has its own settings again afterwards."""
    yield Check(cast(Launched, _Running(service)), [CAT], BOUND_S, seed=1)
    service.deploy(service.config)
    until(
        lambda: bool(
            service.info()["user_config"] == service.config["applications"][0]["deployments"][0]["user_config"]
        )
    )


def test_settings_are_tried_on_a_service_that_runs(service: Service, check: Check) -> None:
    """They are in force before anything is offered; what is then answered, refused or late is counted as such."""
    check.apply(patient := _live(service, batch=4, max_wait_s=5.0))
    assert service.info()["user_config"]["max_batch_size"] == 4
    seen = check.seen(patient, 10.0, 1.0)
    assert (seen.settings, seen.lost, seen.refused) == (patient, 0, 0.0)
    assert seen.p50_s <= seen.p99_s
    assert 0 < seen.good <= seen.answered <= seen.offered

    model = Model(PipelineConfig(device="cpu"), 2, [CAT], 50_000_000, BOUND_S)
    model.measure(2, 1, 0.3)
    trials = Trials(check, model, speed_s=0.1, check_s=1.0)
    trials.measure_peak(4)
    assert trials.peak > 1
    trials.peak *= 4  # so much more that most of it is refused
    seen = trials.run(hasty := replace(patient, max_wait_s=0.001))
    assert seen.refused > 0.3
    assert seen.lost == 0
    assert seen.speed != 1.0
    assert trials.score(hasty) == pytest.approx(seen.good / seen.speed)
    assert trials.score(patient) == 0.0
    assert trials.best() == hasty
    assert check.verdict(5).split(":")[0] in list(State)


def test_a_service_that_does_not_answer_has_no_verdict(service: Service) -> None:
    nowhere = SimpleNamespace(
        document=service.config, endpoint=replace(read_endpoint(service.path), port=1), info=lambda: _fail()
    )
    assert Check(cast(Launched, nowhere), [CAT], BOUND_S, seed=1).verdict(1) == ""


def _fail() -> None:
    raise httpx.ConnectError("nobody is there")
