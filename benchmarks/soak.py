"""Mixed traffic with faults injected all the while; then a table, and whether anything was lost, wrong, left or grew.

The service is started as `make serve` does it, on free ports, with the shipped serve_config.yaml; only
`body_timeout_s` is shorter, so that slow bodies are refused within the run, and `max_replicas` is what the machine can
hold. Ctrl-C ends a run early, with its table.
"""

import argparse
import asyncio
import datetime
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from benchmarks.census import Reading, take_census
from benchmarks.corpus import Corpus, build_corpus
from benchmarks.growth import growths, slots_bound_bytes, unlike_the_start
from benchmarks.injections import KILL_REPLICA, KILL_WORKER, STOP_WORKER, Event, Injections
from benchmarks.judge import Best
from benchmarks.report import Soaked, as_document, as_page
from benchmarks.tally import Tally, tally
from benchmarks.traffic import Traffic
from harness.local_service import LocalService
from harness.ports import apart, free_port
from harness.repository import ROOT
from harness.roles import DARKROOM, REPLICA
from pipeline.config import CHUNKS_PER_WORKER
from pipeline.decode.slots import KEPT_BYTES

RESULTS: Final = Path(__file__).parent / "results"
_BODY_TIMEOUT_S: Final = 15.0
_CAPACITY_CALLERS: Final = 16
_CAPACITY_FOR_S: Final = 15.0
_CLEAR_BY: Final = 0.1
_CENSUS_EVERY_S: Final = 10.0
_PROGRESS_EVERY_S: Final = 30.0
_QUIET_S: Final = 15.0


class Soak:
    """One run against a service that answers.

    Args:
        service: it.
        for_s: how long.
        seed: of everything that is rolled.
        stops: whether workers are stopped too.
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
        """Everything at once, until the time is up or Ctrl-C."""
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
    """Asks for every file alone, while all is quiet; leaves out those whose first class is not clear of the second.

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


# ---- the verdict ----------------------------------------------------------------------------------------------------


def faults_of(found: Tally, events: Sequence[Event], restarts: Counter[str]) -> list[str]:
    """What was lost or wrong, and what the injections do not explain."""
    done = Counter(event.kind for event in events)
    faults = [f"lost: {line}" for line in found.lost] + [f"wrong: {line}" for line in found.wrong]
    faults += [f"{event.at_s:.1f} s, {event.kind}: {event.complaint}" for event in events if event.complaint]
    if found.blamed_images > done[STOP_WORKER]:
        faults.append(f"{found.blamed_images} good images blamed, {done[STOP_WORKER]} workers stopped")
    if restarts["workers"] > done[KILL_WORKER] + done[STOP_WORKER]:
        faults.append(f"{restarts['workers']} workers restarted: more than were killed or stopped")
    if restarts["replicas"] > done[KILL_REPLICA]:
        faults.append(f"{restarts['replicas']} replicas restarted: more than were killed")
    return faults


def restarts_in(output: str) -> Counter[str]:
    """What the service itself has logged of replacements."""
    return Counter(
        workers=len(re.findall(r"decoder process \S+ (?:was )?ended", output)),
        replicas=len(re.findall(r"Replica Replica\(.*?\) failed health check, stopping it", output)),
    )


def growth_faults(soak: Soak) -> list[str]:
    """What grows, by the rules of `benchmarks/growth.py`."""
    faults = [
        f"{g.role}: {g.quantity} grow, within {g.within}, across {g.across}"
        for g in growths(soak.readings, soak.ended_at_s)
        if g.is_fault
    ]
    start = Counter(reading.role for reading in soak.readings if reading.at_s == soak.readings[0].at_s)
    faults += unlike_the_start(start, Counter(reading.role for reading in soak.at_rest))
    limits, args = soak.info["user_config"], soak.info["args"]["pipeline"]
    large_bytes = soak.info["workers"] * CHUNKS_PER_WORKER * limits["max_batch_size"] * limits["max_image_bytes"]
    bound = slots_bound_bytes(args["slots"], soak.info["transform"]["crop_px"], large_bytes, KEPT_BYTES)
    for at_s in sorted({reading.at_s for reading in soak.readings}):
        now = [reading for reading in soak.readings if reading.at_s == at_s]
        shared, replicas = sum(r.shared_bytes for r in now), sum(r.role == REPLICA for r in now)
        if shared > bound * max(1, replicas):
            faults.append(f"{at_s:.1f} s: {shared >> 20} MiB of shared memory, above {bound >> 20} MiB a replica")
    return faults


def with_roles(line: str, readings: Sequence[Reading]) -> str:
    """The line, with the roles of the processes that it names by their pids."""
    roles = {str(reading.pid): reading.role for reading in readings}
    return line + "".join(f" [{pid}: {roles[pid]}]" for pid in re.findall(r"\d+", line) if pid in roles)


def is_rays_own(line: str, readings: Sequence[Reading]) -> bool:
    """Whether it tells of what the launcher has ended by force, and that was Ray's alone: slow, on a busy machine."""
    named = set(re.findall(r"\((\d+)\)", line))
    rays = {str(reading.pid) for reading in readings if reading.role not in DARKROOM}
    return "what did not end by itself" in line and named <= rays


# ---- the command ----------------------------------------------------------------------------------------------------


def say(line: str) -> None:
    """Prints at once, also into a pipe."""
    print(line, flush=True)


def _configuration() -> dict[str, Any]:
    """The shipped one on a free port, with as many replicas as there is room for."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    document["http_options"]["port"] = free_port()
    (deployment,) = document["applications"][0]["deployments"]
    # While Serve waits for room for more replicas than the machine holds, it may apply no settings.
    deployment["autoscaling_config"]["max_replicas"] = max(1, (os.cpu_count() or 1) // 2)
    deployment["user_config"]["body_timeout_s"] = _BODY_TIMEOUT_S
    return document


def soaked(folder: Path, for_s: float, seed: int, *, stops: bool) -> Soaked:
    """Runs a soak from the start of a service to its end.

    Args:
        folder: for the service's configuration and output.
        for_s: how long callers come.
        seed: of everything that is rolled.
        stops: whether workers are stopped too.
    """
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    service = LocalService(folder, _configuration(), apart())
    say(f"the service answers at {service.endpoint.url}; its output is in {service.output}")
    try:
        soak = Soak(service, for_s, seed=seed, stops=stops)
        asyncio.run(soak.run())
    finally:
        left = service.stop()
    found = tally(soak.traffic.records, soak.injections.outages)
    restarts = restarts_in(service.printed())
    faults = faults_of(found, soak.injections.events, restarts) + growth_faults(soak)
    faults += [with_roles(line, soak.readings) for line in left if not is_rays_own(line, soak.readings)]
    return Soaked(
        command=f"make soak MINUTES={for_s / 60:g}" + ("" if stops else " SOAK=--no-stops"),
        date=date,
        for_s=soak.ended_at_s,
        capacity=soak.capacity,
        device=soak.info["device"],
        tally=found,
        held_back=soak.traffic.held_back,
        events=soak.injections.events,
        worker_restarts=restarts["workers"],
        replica_restarts=restarts["replicas"],
        readings=soak.readings,
        growths=growths(soak.readings, soak.ended_at_s),
        faults=faults,
        notes=[with_roles(line, soak.readings) for line in left if is_rays_own(line, soak.readings)],
    )


def main() -> int:
    """Run the command line; return the exit status: 0 where nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-stops", action="store_true", help="stop no worker (SIGSTOP)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="darkroom-soak-"))
    result = soaked(folder, options.minutes * 60, options.seed, stops=not options.no_stops)
    RESULTS.mkdir(exist_ok=True)
    page = as_page(result)
    (RESULTS / "soak.md").write_text(page)
    (RESULTS / "soak.json").write_text(json.dumps(as_document(result), indent=1) + "\n")
    say(page)
    if result.faults:
        say(f"what the service has printed is kept in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
