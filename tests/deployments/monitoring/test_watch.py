"""Tests of the watch on a replica."""

import asyncio
import itertools
import logging
from collections.abc import Callable
from contextlib import suppress

import pytest

from deployments.monitoring.last_minute import PREDICTED_OUTCOME
from deployments.monitoring.timeline import STAGES
from deployments.monitoring.watch import Watch
from tests.support.fake_engine import IDLE
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a hundredth of a second count as a second."""
    monkeypatch.setattr("deployments.monitoring.watch._SNAPSHOT_PERIOD_S", 0.01)


def watched(happened: Callable[[Watch], object]) -> Watch:
    """Run a watch, which notes one answer, until something has happened."""

    async def run() -> Watch:
        watch = Watch(lambda: IDLE, lambda: 0, lambda: 0.0, "cpu")
        watching = asyncio.create_task(watch.run())
        watch.note_answer((0.01,) * len(STAGES), 0.07)
        await asyncio.to_thread(until, lambda: happened(watch))
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        return watch

    return asyncio.run(run())


def test_a_second_that_cannot_be_published_does_not_end_the_watch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error while metrics are published is logged and does not end the watch; the last minute is still counted."""
    monkeypatch.setattr("deployments.monitoring.metrics.Metrics.publish", lambda *_: 1 / 0)
    with caplog.at_level(logging.ERROR, "deployments"):
        watch = watched(lambda watch: len(watch._minute._seconds) > 4)
    assert caplog.text.count("could not be read or published") == 1
    assert watch.stats(60)["requests"] == watch.requests == {PREDICTED_OUTCOME: 1}


def test_a_second_that_cannot_be_read_does_not_end_the_watch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error while figures are read is logged, and the next second is read again with all that was counted."""
    calls = itertools.count()

    def cpu_percent(*, percpu: bool) -> list[float]:
        assert percpu
        if next(calls) in (2, 3, 4):  # the first two are the watch's own start
            raise OSError("too many open files")
        return [0.0]

    monkeypatch.setattr("deployments.monitoring.watch.psutil.cpu_percent", cpu_percent)
    with caplog.at_level(logging.ERROR, "deployments"):
        watch = watched(lambda watch: len(watch._minute._seconds) > 4)
    assert caplog.text.count("could not be read or published") == 1
    assert watch.stats(60)["requests"] == {PREDICTED_OUTCOME: 1}
