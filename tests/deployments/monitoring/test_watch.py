"""Test of the watch on a replica."""

import asyncio
import logging
from contextlib import suppress

import pytest

from deployments.monitoring.last_minute import PREDICTED_OUTCOME
from deployments.monitoring.timeline import STAGES
from deployments.monitoring.watch import Watch
from pipeline.stats import EngineStats
from tests.support.waiting import until

ENGINE_STATS = EngineStats(
    0.0,
    0.0,
    {},
    0,
    0,
    decode_workers=1,
    most_decoding=1,
    workers_ready=1,
    concurrent_batches=1,
    in_work=0,
    free_slots=8,
)


def test_a_second_that_cannot_be_published_does_not_end_the_watch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error while metrics are published is logged and does not end the watch; the last minute is still counted."""
    monkeypatch.setattr("deployments.monitoring.watch._SNAPSHOT_PERIOD_S", 0.01)
    monkeypatch.setattr("deployments.monitoring.metrics.Metrics.publish", lambda *_: 1 / 0)

    async def watched() -> Watch:
        watch = Watch(lambda: ENGINE_STATS, lambda: 0, lambda: 0.0, "cpu")
        watching = asyncio.create_task(watch.run())
        watch.note_answer((0.01,) * len(STAGES), 0.07)
        await asyncio.to_thread(until, lambda: len(caplog.records) >= 3)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        return watch

    with caplog.at_level(logging.ERROR, "deployments"):
        watch = asyncio.run(watched())
    assert "could not be published" in caplog.text
    assert watch.stats(60)["requests"] == watch.requests == {PREDICTED_OUTCOME: 1}
