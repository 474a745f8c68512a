"""Fixtures that many test files share."""

import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch

from harness.local_service import shipped_config
from pipeline.config import PipelineConfig
from pipeline.engine import Engine
from pipeline.live_limits import Limits
from tests.support.device_kinds import KINDS, device_of
from tests.support.quick_model import QUICK_MODEL
from tests.support.running_service import Service, running
from tests.support.shared_services import takes_a_service

# A shell makes a suite in the background ignore Ctrl-C, and every program that a test starts would inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Several of torch's threads that wait for each other keep their cores busy: beside another process each forward pass
# would take many times as long.
torch.set_num_threads(1)

PIPELINE = PipelineConfig(
    device="cpu",
    runtime="torch",  # to compare runtimes at the start of each engine would take longer than most tests
    decode_workers=2,
    concurrent_batches=2,
    max_top_k=1000,
)

SMALL = PipelineConfig(
    model=QUICK_MODEL,
    device="cpu",
    runtime="torch",
    decode_workers=1,
    spare_workers=0,
    concurrent_batches=1,
    batch_sizes=(1, 2),
    slots=8,
)
SMALL_LIMITS = Limits(max_batch_size=2)

_shared_service = ExitStack()
"""The service of the fixture `service`, while it runs."""


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist, all tests run in one process
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return a scheduler that runs the files with a shared service in one process, so that each starts only once."""
    from tests.support.scheduler import SharedServices

    return SharedServices(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files with a shared service first, so that the service can end after them."""
    items.sort(key=lambda item: not takes_a_service(item.location[0]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Iterator[None]:
    """End the shared service before the first test that takes none: an idle one uses a fifth of a core."""
    try:
        yield
    finally:
        if nextitem is None or not takes_a_service(nextitem.location[0]):
            _shared_service.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each kind of device in turn, for tests that hold for all of them."""
    with device_of(request.param) as kind:
        yield kind


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """Restore the loggers after a test: a replica in this process redirects them to Serve's."""
    yield
    for name in ("pipeline", "deployments"):
        logger = logging.getLogger(name)
        logger.parent, logger.propagate, logger.handlers = logging.getLogger(), True, []
        logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Return a started engine in `fast` mode with two workers, which keeps all 1000 classes.

    Tests must not change its limits.
    """
    with Engine(PIPELINE) as engine:
        yield engine


@pytest.fixture
def small() -> Iterator[Engine]:
    """Return an engine of one worker, not started, which a test may close or break."""
    engine = Engine(SMALL, SMALL_LIMITS)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return the shipped configuration behind HAProxy, as `make serve` starts it.

    Metrics come after 1 s instead of 10 s. A request is traced if its `traceparent` asks for it.
    """
    config = {**shipped_config(), "tracing_config": {"enabled": True, "sampling_ratio": 0.0}}
    folder = tmp_path_factory.mktemp("service")
    yield _shared_service.enter_context(running(folder, config, RAY_metrics_report_interval_ms="1000"))
    _shared_service.close()
