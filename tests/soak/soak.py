"""A run of the soak against a running service: traffic, faults and readings at once."""

import asyncio
import signal
import time
from typing import Final

import httpx

from harness.command import say
from harness.local_service import LocalService
from tests.soak.census import Reading, take_census
from tests.soak.injections import Injections
from tests.soak.judgement import Best
from tests.soak.samples import Corpus, build_corpus
from tests.soak.tally import tally
from tests.soak.traffic import Traffic

_CAPACITY_CALLERS: Final = 16
_CAPACITY_FOR_S: Final = 15.0
_CLEAR_BY: Final = 0.1
_CENSUS_EVERY_S: Final = 10.0
_PROGRESS_EVERY_S: Final = 30.0
_QUIET_S: Final = 15.0


class Soak:
    """A run against a running service.

    Args:
        service: the running service.
        for_s: duration of the traffic.
        seed: of all random choices.
        stops: whether workers are stopped too, not only killed.
    """

    def __init__(self, service: LocalService, for_s: float, *, seed: int, stops: bool) -> None:
        self.readings: list[Reading] = []
        self.at_rest: list[Reading] = []  # after the last answer
        self.info = service.info()
        self.capacity = self.ended_at_s = 0.0
        self._service, self._for_s = service, for_s
        corpus, truth = survey(service.endpoint.url, build_corpus())
        self.traffic = Traffic(service.endpoint.url, corpus, truth, seed)
        self.injections = Injections(service, self.traffic.now_s, for_s, seed=seed + 2, stops=stops, say=say)

    async def run(self) -> None:
        """Run traffic, faults and readings at once, until the time is up or Ctrl-C."""
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, stop.set)
        self.capacity = await self.traffic.measure_capacity(_CAPACITY_CALLERS, _CAPACITY_FOR_S)
        say(f"capacity: {self.capacity:.1f} requests a second of the mix")
        self.traffic.start_clock()
        loop.call_later(self._for_s, stop.set)
        watching = asyncio.gather(self._take_censuses(stop), self._show_progress(stop))
        await asyncio.gather(self.traffic.run(self.capacity, stop), self.injections.run(stop))
        await watching
        loop.remove_signal_handler(signal.SIGINT)
        await asyncio.sleep(_QUIET_S)
        self.at_rest = await self._census()

    async def _take_censuses(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.readings += await self._census()
            await _pause(stop, _CENSUS_EVERY_S)
        self.ended_at_s = self.traffic.now_s()

    async def _census(self) -> list[Reading]:
        at_s, service = self.traffic.now_s(), self._service
        return await asyncio.to_thread(take_census, service.run, service.pid, at_s, time.time())

    async def _show_progress(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await _pause(stop, _PROGRESS_EVERY_S)
            now = tally(self.traffic.records, self.injections.outages)
            say(
                f"{self.traffic.now_s():7.1f} s  {now.callers} callers, {now.images} images, answers {now.by_status}, "
                f"lost {len(now.lost)}, wrong {len(now.wrong)}, in flight {self.traffic.in_flight}, "
                f"p50 {now.p50_ms:.0f} ms, p99 {now.p99_ms:.0f} ms"
            )


def survey(url: str, corpus: Corpus) -> tuple[Corpus, dict[str, Best]]:
    """Send every file alone, without other load; leave out those whose first two classes are close.

    Raises:
        RuntimeError: a bad file is not refused as it should be.
    """
    truth: dict[str, Best] = {}
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        for sample in corpus.good:
            answer = client.post("/predict", content=sample.data, headers={"Content-Type": sample.media_type})
            first, second, *_ = answer.raise_for_status().json()["predictions"]
            if first["score"] - second["score"] > _CLEAR_BY:
                truth[sample.name] = Best(first["label"], first["score"])
        for sample in corpus.bad:
            answer = client.post("/predict", content=sample.data, headers={"Content-Type": sample.media_type})
            if answer.status_code != sample.status:
                raise RuntimeError(f"{sample.name}: {answer.status_code} where {sample.status} is right")
    return corpus.without({sample.name for sample in corpus.good} - truth.keys()), truth


async def _pause(stop: asyncio.Event, for_s: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), for_s)
    except TimeoutError:
        return
