"""What a soak concludes: from an answer, from readings of processes, from what became of its callers."""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import orjson
import pytest

from benchmarks.callers import Attempt, Callers, Record
from benchmarks.census import FORKSERVER, LAUNCHER, REPLICA, TRACKER, WORKER, Reading, take_census
from benchmarks.corpus import Corpus, Sample
from benchmarks.growth import Growth, growths, unlike_the_start
from benchmarks.injections import KILL_WORKER, STOP_WORKER, Event
from benchmarks.judge import Answer, Ask, Best, Kind, Verdict, judge
from benchmarks.soak import faults_of, is_rays_own, restarts_in, with_roles
from benchmarks.tally import tally
from benchmarks.traffic import is_burst, is_plain
from deployments.machine import name_run
from tests.waiting import until

CAT, CUP = Sample("cat", b"", "image/jpeg"), Sample("cup", b"", "image/jpeg")
TORN = Sample("torn", b"", "image/jpeg", HTTPStatus.UNPROCESSABLE_ENTITY)
CORPUS = Corpus(common=[Sample("cat", b"x" * 1000, "image/jpeg")], phone=[], slow=[], bad=[])
TRUTH = {"cat": Best("tabby", 0.8), "cup": Best("espresso", 0.9)}
MIB = 1 << 20

Document = dict[str, Any]

# ---- an answer ------------------------------------------------------------------------------------------------------


def _predicted(label: str, score: float) -> Document:
    return {"predictions": [{"label": label, "index": 0, "score": score}]}


def _problem(status: int, kind: str) -> Document:
    return {"type": f"urn:darkroom:{kind}", "status": status}


A_CAT, A_CUP = _predicted("tabby", 0.801), _predicted("espresso", 0.899)
A_TORN = {"error": _problem(422, "undecodable-image")}


def _verdict(ask: Ask, status: int, body: Document, **headers: str) -> Kind:
    return judge(ask, Answer(status, headers, orjson.dumps(body)), TRUTH).kind


@pytest.mark.parametrize(
    ("sample", "status", "body", "kind"),
    [
        (CAT, 200, A_CAT, Kind.RIGHT),
        (CAT, 200, A_CUP, Kind.WRONG),
        (CAT, 200, _predicted("tabby", 0.7), Kind.WRONG),  # the pixels of another file
        (CAT, 422, _problem(422, "undecodable-image"), Kind.WRONG),
        (CAT, 422, _problem(422, "slow-image"), Kind.BLAMED),
        (TORN, 422, _problem(422, "undecodable-image"), Kind.RIGHT),
        (TORN, 415, _problem(415, "unsupported-format"), Kind.WRONG),
        (TORN, 422, _problem(415, "unsupported-format"), Kind.WRONG),  # the line and the body disagree
        (TORN, 200, A_CAT, Kind.WRONG),
        (CAT, 500, {}, Kind.BROKEN),
        (CAT, 504, _problem(504, "deadline-exceeded"), Kind.BROKEN),  # nobody had asked for one
    ],
)
def test_an_answer_for_one_image(sample: Sample, status: int, body: Document, kind: Kind) -> None:
    assert _verdict(Ask((sample,), many=False), status, body) == kind


@pytest.mark.parametrize(
    ("results", "kind"),
    [
        ([A_CAT, A_TORN, A_CUP], Kind.RIGHT),
        ([A_CUP, A_TORN, A_CAT], Kind.WRONG),  # the order
        ([A_CAT, A_CUP, A_TORN], Kind.WRONG),
        ([A_CAT, A_TORN], Kind.WRONG),  # the count
        ([A_CAT, A_CAT, A_CUP], Kind.WRONG),  # a bad image predicted
        ([{"error": _problem(422, "fatal-image")}, A_TORN, A_CUP], Kind.BLAMED),
        ([{"error": _problem(422, "fatal-image")}, A_CUP, A_CUP], Kind.WRONG),  # the worse counts
    ],
)
def test_an_answer_for_many_images(results: list[Document], kind: Kind) -> None:
    assert _verdict(Ask((CAT, TORN, CUP), many=True), 200, {"results": results}) == kind


def test_only_a_503_that_says_when_is_a_refusal() -> None:
    ask = Ask((CAT,), many=False)
    assert _verdict(ask, 503, _problem(503, "overloaded"), **{"retry-after": "2"}) == Kind.REFUSED
    assert _verdict(ask, 503, _problem(503, "overloaded")) == Kind.BROKEN


def test_a_deadline_may_pass_for_a_client_that_has_set_one() -> None:
    ask = Ask((CAT,), many=False, has_deadline=True)
    assert _verdict(ask, 504, _problem(504, "deadline-exceeded")) == Kind.LATE
    assert _verdict(ask, 504, {}) == Kind.BROKEN
    assert _verdict(ask, 200, A_CAT) == Kind.RIGHT


def test_a_request_that_is_wrong_as_a_whole_is_refused_as_it_should_be() -> None:
    ask = Ask((), many=False, refusal=HTTPStatus.REQUEST_TIMEOUT)
    assert _verdict(ask, 408, _problem(408, "slow-request")) == Kind.RIGHT
    assert _verdict(ask, 400, _problem(400, "malformed-request")) == Kind.WRONG
    assert _verdict(ask, 200, A_CAT) == Kind.WRONG


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]"])
def test_a_body_that_is_no_answer_is_wrong(body: bytes) -> None:
    for ask in (Ask((CAT,), many=False), Ask((CAT,), many=True)):
        assert judge(ask, Answer(200, {}, body), TRUTH).kind == Kind.WRONG


# ---- what grows -----------------------------------------------------------------------------------------------------


def _life(pid: int, from_s: int, to_s: int, fds: Callable[[int, int], float], role: str = REPLICA) -> Iterator[Reading]:
    """Readings of one process every ten seconds; its fds by the run's time and its age."""
    for at_s in range(from_s, to_s, 10):
        count = int(fds(at_s, at_s - from_s))
        yield Reading(at_s, pid, at_s - from_s, role, count, 4, 0, 100 * MIB, 0)


def _fds(readings: Iterator[Reading] | list[Reading]) -> Growth:
    return next(growth for growth in growths(list(readings), 600) if growth.quantity == "fds")


def test_a_leak_within_a_process_is_growth() -> None:
    """One fd in ten seconds: 40 in the later two thirds of ten minutes."""
    growth = _fds(_life(1, 0, 600, lambda at_s, _: 20 + at_s / 10))
    assert growth.within == pytest.approx(40, abs=1)
    assert growth.across is None
    assert growth.is_fault


@pytest.mark.parametrize(
    "fds",
    [
        lambda at_s, _: 20 + 50 * is_burst(at_s),  # connections of a burst
        lambda at_s, _: min(200, 20 + at_s),  # pools that fill up, once
        lambda at_s, _: 20 + at_s % 3,
    ],
    ids=["bursts", "warm-up", "noise"],
)
def test_what_comes_and_goes_is_not_growth(fds: Callable[[int, int], float]) -> None:
    assert not _fds(_life(1, 0, 600, fds)).is_fault


def test_what_successors_inherit_is_growth() -> None:
    """Each lives for 40 s only, and starts with one fd more than the one before it."""
    lives = (_life(n, 40 * n, 40 * n + 40, lambda _, __, n=n: 20 + n, WORKER) for n in range(15))  # type: ignore[misc]
    growth = _fds([reading for life in lives for reading in life])
    assert growth.within is None
    assert growth.across == pytest.approx(10, abs=1)
    assert growth.is_fault


def test_the_first_third_does_not_count() -> None:
    """There each successor inherits more than the one before it, and then no more."""
    lives = (_life(n, 40 * n, 40 * n + 40, lambda _, __, n=n: 20 + 10 * min(n, 5), WORKER) for n in range(15))  # type: ignore[misc]
    assert not _fds([reading for life in lives for reading in life]).is_fault


def test_successors_that_fill_up_alike_are_not_growth() -> None:
    """Compared at the same age: here the last one lives longest, and so holds most."""
    lives = [_life(n, 20 * n, 20 * n + 20, lambda _, age_s: 20 + age_s, WORKER) for n in range(15)]
    lives.append(_life(15, 300, 600, lambda _, age_s: 20 + min(age_s, 60), WORKER))
    assert not _fds([reading for life in lives for reading in life]).is_fault


def test_a_successor_may_warm_up_too() -> None:
    """A replica killed in the middle of the run: its successor's first minute does not count."""
    lives = [*_life(1, 0, 300, lambda *_: 50), *_life(2, 300, 600, lambda _, age_s: min(50, 20 + age_s))]
    assert not _fds(lives).is_fault


def test_growth_of_rays_own_processes_is_no_fault() -> None:
    growth = _fds(_life(1, 0, 600, lambda at_s, _: 20 + at_s, "dashboard"))
    assert growth.within is not None
    assert growth.within > 100
    assert not growth.is_fault


def test_a_few_readings_do_not_tell() -> None:
    growth = _fds(_life(1, 540, 600, lambda at_s, _: at_s))
    assert (growth.within, growth.across, growth.is_fault) == (None, None, False)


def test_processes_that_stay_behind_are_seen_per_replica() -> None:
    """More replicas have more workers; one replica with the trackers of two has kept one."""
    start = {REPLICA: 1, WORKER: 1, TRACKER: 1}
    assert unlike_the_start(start, {REPLICA: 2, WORKER: 2, TRACKER: 2}) == []
    assert unlike_the_start(start, {REPLICA: 1, WORKER: 1, TRACKER: 2, "haproxy": 3}) == [
        "resource tracker: 1 at the start, 2 at the end"
    ]


# ---- a census -------------------------------------------------------------------------------------------------------

FAMILY = """
import mmap, multiprocessing, os, sys, threading

def work(pipe):
    files = [open(os.devnull) for _ in range(40)]
    shared = mmap.mmap(-1, 32 << 20, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    shared[:] = bytes(len(shared))
    private = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    private[:] = b"x" * len(private)
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    pipe.send("ready")
    pipe.recv()

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    lock, (here, there) = context.Lock(), context.Pipe()
    child = context.Process(target=work, args=(there,), daemon=True)
    child.start()
    there.close()  # so that the child's death is an end of the pipe
    print(here.recv(), child.pid, flush=True)
    sys.stdin.read()
"""


@contextmanager
def _family(folder: Any, run: str) -> Iterator[tuple[int, int]]:
    """A process with a forkserver, a resource tracker and a worker that holds something: its pid, the worker's."""
    program = folder / "family.py"
    program.write_text(FAMILY)
    with subprocess.Popen(
        [sys.executable, str(program)],
        env={**os.environ, "DARKROOM_RUN": run},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        _, worker = process.stdout.readline().split()
        yield process.pid, int(worker)


def test_a_census_finds_and_measures_every_process(tmp_path: Any) -> None:
    """By the run's mark, also the forkserver's children; each with its role and what it holds."""
    run = name_run()  # of a launcher that lives: others on the machine leave it in peace
    with _family(tmp_path, run) as (parent, worker):
        census = {reading.pid: reading for reading in take_census(run, os.getpid(), 7.0, time.time())}
    roles = Counter(reading.role for pid, reading in census.items() if pid not in (os.getpid(), parent))
    assert roles == {FORKSERVER: 1, WORKER: 1, TRACKER: 1}
    held = census[worker]
    (bare,) = [reading for reading in census.values() if reading.role == FORKSERVER]
    assert held.at_s == 7.0
    assert 0 <= held.age_s < 600
    assert held.threads == 2
    assert held.fds >= 40 > bare.fds
    assert 64 * MIB > held.shared_bytes >= 32 * MIB > bare.shared_bytes
    assert 64 * MIB <= held.private_bytes - bare.private_bytes < 96 * MIB
    assert parent in census


def test_a_process_that_has_ended_is_left_out(tmp_path: Any) -> None:
    run = name_run()
    with _family(tmp_path, run):
        pass
    until(lambda: [reading.pid for reading in take_census(run, os.getpid(), 0.0, time.time())] == [os.getpid()])


# ---- the callers ----------------------------------------------------------------------------------------------------


def _called(caller: str, *answers: bytes) -> Record:
    """What becomes of one caller at a server that gives these answers, one a request, and closes no connection."""
    left, ended = list(answers), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            head = await reader.readuntil(b"\r\n\r\n")
            if caller == "patient":
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
            writer.write(left.pop(0))
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    async def call() -> Record:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        callers = Callers(f"http://127.0.0.1:{port}", CORPUS, TRUTH, random.Random(1), time.monotonic)
        record = await callers.call(caller)
        await callers.close()
        await ended.wait()
        server.close()
        return record

    return asyncio.run(call())


def _on_the_wire(status: int, body: Document, header: str = "X-None: 0") -> bytes:
    data = orjson.dumps(body)
    return f"HTTP/1.1 {status} Told\r\n{header}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def test_a_stalled_caller_reads_its_refusal() -> None:
    """Though the connection stays open: the balancer waits for the rest of the body."""
    (attempt,) = _called("stalled", _on_the_wire(408, _problem(408, "slow-request"))).attempts
    assert (attempt.status, attempt.verdict.kind) == (408, Kind.RIGHT)


def test_a_patient_caller_comes_back_when_told() -> None:
    refused = _on_the_wire(503, _problem(503, "overloaded"), "Retry-After: 0")
    record = _called("patient", refused, refused, _on_the_wire(200, A_CAT))
    assert [attempt.verdict.kind for attempt in record.attempts] == [Kind.REFUSED, Kind.REFUSED, Kind.RIGHT]


def test_a_connection_that_breaks_is_an_answer_too() -> None:
    (attempt,) = _called("stalled", b"HTTP/1.1 200 Told\r\nContent-Length: none\r\n\r\n").attempts
    assert (attempt.status, attempt.verdict.kind) == (0, Kind.BROKEN)


# ---- what became of the callers -------------------------------------------------------------------------------------


def _attempt(started_s: float, ended_s: float, kind: Kind, status: int = 0) -> Attempt:
    return Attempt(started_s, ended_s, status, Verdict(kind, "it broke"))


def _record(*attempts: Attempt, caller: str = "patient", shape: str = "raw") -> Record:
    return Record(caller, shape, 1, attempts)


def test_only_what_a_killed_replica_explains_is_not_lost() -> None:
    """In flight when it was killed, or come before there was another."""
    outages = [(100.0, 120.0)]
    records = [
        _record(_attempt(99, 100.2, Kind.BROKEN)),
        _record(_attempt(110, 115, Kind.BROKEN, 500)),
        _record(_attempt(98, 99.9, Kind.BROKEN)),
        _record(_attempt(121, 122, Kind.BROKEN)),
        _record(_attempt(99, 130, Kind.RIGHT, 200)),
    ]
    found = tally(records, outages)
    assert (found.in_killed_replica, found.while_replaced) == (1, 1)
    assert [line.split()[0] for line in found.lost] == ["98.0", "121.0"]
    assert found.by_status == {0: 3, 200: 1, 500: 1}


def test_refused_callers_are_answered_or_not() -> None:
    refused, right = _attempt(0, 1, Kind.REFUSED, 503), _attempt(2, 3, Kind.RIGHT, 200)
    found = tally([_record(refused, right), _record(refused, refused), _record(caller="gone")], [])
    assert (found.refused, found.refused_then_answered, found.refused_to_the_end, found.gone) == (3, 1, 1, 1)
    assert found.lost == found.wrong == []


def test_latencies_are_those_of_single_images_outside_bursts() -> None:
    """A burst comes at 30 s of every minute; its backlog is gone 25 s later."""
    right = _attempt(90.5, 90.6, Kind.RIGHT)
    assert [at_s for at_s in range(100) if is_burst(at_s)] == [*range(30, 35), *range(90, 95)]
    assert not is_plain(_record(right))
    quiet = _record(_attempt(10.0, 10.5, Kind.RIGHT))
    assert is_plain(quiet)
    assert not is_plain(_record(*quiet.attempts, caller="slow"))
    found = tally([quiet, quiet, _record(right)], [])
    assert (found.plain, found.p50_ms, found.p99_ms) == (2, 500.0, 500.0)


# ---- the verdict ----------------------------------------------------------------------------------------------------


def test_what_the_injections_do_not_explain_is_a_fault() -> None:
    blamed = Attempt(1.0, 12.0, 422, Verdict(Kind.BLAMED, "slow", blamed=1))
    stopped, killed = Event(1.0, 12.0, STOP_WORKER, ""), Event(20.0, 21.0, KILL_WORKER, "")
    found = tally([_record(blamed)], [])
    assert faults_of(found, [stopped, killed], Counter(workers=2)) == []
    assert len(faults_of(found, [killed], Counter(workers=2))) == 2
    assert faults_of(found, [stopped], Counter(workers=1, replicas=1)) == [
        "1 replicas restarted: more than were killed"
    ]
    complaint = Event(5.0, 35.0, KILL_WORKER, "", "not within 30 s")
    assert faults_of(tally([], []), [complaint], Counter()) == ["5.0 s, kill a worker: not within 30 s"]


def test_restarts_are_counted_in_what_the_service_prints() -> None:
    output = """
(pid=7) decoder process 41 ended; starting another
(pid=7) decoder process 42 was ended, an image took it too long; starting another
(pid=9) controller 9 -- Replica Replica(id='xkw03o96', app='darkroom') failed health check, stopping it.
"""
    assert restarts_in(output) == {"workers": 2, "replicas": 1}


def test_a_process_that_is_left_is_named_by_its_role() -> None:
    readings = list(_life(4711, 0, 10, lambda *_: 3, LAUNCHER))
    assert with_roles("left running: 4711 python", readings) == "left running: 4711 python [4711: launcher]"


def test_what_ray_did_not_end_in_time_is_no_fault() -> None:
    """But what Darkroom did not end is, and what nobody knows."""
    readings = [*_life(5, 0, 10, lambda *_: 3, "dashboard"), *_life(6, 0, 10, lambda *_: 3, WORKER)]
    ended = "darkroom: terminate what did not end by itself: "
    assert is_rays_own(ended + "python (5)", readings)
    assert not is_rays_own(ended + "python (5), pt_data_worker (6)", readings)
    assert not is_rays_own(ended + "python (7)", readings)
    assert not is_rays_own("left running: 5 python", readings)
