"""What `make bench` counts with: clients that keep their connections, shares of a limit that drifts, the stand-in."""

import asyncio
import csv
import io
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from xml.etree import ElementTree

import psutil
import pytest
from PIL import Image

from benchmarks import alone, bars, bench, k6, latency, scaling
from benchmarks.clients import Form, Target
from benchmarks.contestants import Ask, Contestant, Facts
from benchmarks.limit import TRANSFORM, Limit
from benchmarks.photographs import NAMES, jpeg, photograph
from benchmarks.ports import free_port
from benchmarks.servers import ROOT
from benchmarks.standin import StandIn, open_stand_in
from benchmarks.wire import Load, closed_loop, open_loop
from benchmarks.work import MIXED, PHONE, SMALL, SMALL_MANY, Work
from pipeline.config import Limits, PipelineConfig
from pipeline.decode import decode
from pipeline.engine import Engine
from pipeline.records import Prediction
from tests.waiting import PATIENCE_S

FORM = Form("text/plain", b"ping")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 0.2\r\n\r\n"


@contextmanager
def _server(answer: Callable[[int], bytes | None], after_s: float = 0.0) -> Iterator[tuple[Target, list[int]]]:
    """Answers the n-th request of all with `answer(n)`, or hangs up; yields where, and what each connection sent."""
    loop, sent, count = asyncio.new_event_loop(), list[int](), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        sent.append(0)
        number = len(sent) - 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(len(FORM.body)) == FORM.body
                sent[number] += 1
                count += 1
                said = answer(count)
                await asyncio.sleep(after_s)
                if said is None:
                    break
                for byte in (said[:20], said[20:]):  # a head may come in pieces
                    writer.write(byte)
                    await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        writer.close()
        await writer.wait_closed()

    async def end() -> None:
        server.close()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})  # each connection, until it is closed

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    host, port = server.sockets[0].getsockname()
    try:
        yield Target(host, port, "/", lambda image: Form("text/plain", image)), sent
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(PATIENCE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


# ---- clients --------------------------------------------------------------------------------------------------------


def test_clients_keep_their_connections() -> None:
    """One each; every answer within the time is counted, and none that came before it."""
    with _server(lambda _: OK) as (target, sent):
        load = closed_loop(target, [FORM], clients=3, warm_up_s=0.2, for_s=0.3)
    assert len(sent) == 3
    assert 0 < load.sent == len(load.took_s) < sum(sent)
    assert load.per_s == load.sent / 0.3
    assert not load.others


def test_answers_may_come_in_chunks() -> None:
    """As those of Ray Serve's own proxy do."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    with _server(lambda _: head + b"4\r\npong\r\n0\r\n\r\n") as (target, sent):
        load = closed_loop(target, [FORM], clients=1, warm_up_s=0.0, for_s=0.2)
    assert len(load.took_s) == load.sent > 1
    assert len(sent) == 1


def test_who_is_told_to_come_again_later_does() -> None:
    """The second of two answers refuses for a fifth of a second."""
    with _server(lambda number: OK if number % 2 else BUSY) as (target, _):
        load = closed_loop(target, [FORM], clients=1, warm_up_s=0.0, for_s=0.5)
    assert (len(load.took_s), load.refused) == (3, 3)
    assert {*load.others} == {"503"}


def test_a_connection_that_breaks_is_counted_and_opened_again() -> None:
    with _server(lambda number: None if number == 4 else OK) as (target, sent):
        load = closed_loop(target, [FORM], clients=1, warm_up_s=0.0, for_s=0.3)
    assert load.others == {"closed": 1}
    assert sent[0] == 4
    assert len(sent) == 2
    assert 0 <= sum(sent) - load.sent <= 1  # the last one may be answered after the end


def test_where_nobody_listens_every_request_is_lost() -> None:
    target = Target("127.0.0.1", free_port(), "/", lambda image: Form("text/plain", image))
    load = open_loop(target, [FORM], rate=50, for_s=0.2, chance=random.Random(1))
    assert load.sent == sum(load.others.values()) > 0
    assert {*load.others} == {"ConnectionRefusedError"}


def test_the_open_loop_waits_for_nobody() -> None:
    """The first answer comes after all requests; then each has taken from when it was due."""
    with _server(lambda _: OK, after_s=0.4) as (target, sent):
        load = open_loop(target, [FORM], rate=100, for_s=0.3, chance=random.Random(2))
    assert len(sent) == load.sent == len(load.took_s) > 10
    assert min(load.took_s) > 0.39


def test_an_even_load_is_even() -> None:
    with _server(lambda _: OK) as (target, _):
        load = open_loop(target, [FORM], rate=100, for_s=0.3, chance=None)
    assert load.sent in (29, 30)


def test_what_k6_has_measured_is_read() -> None:
    """Milliseconds and one row a sample, of which most are of no interest here."""
    lines = (
        "metric_name,timestamp,metric_value,error_code,status",
        "http_req_duration,1700000000,20.5,,200",
        "http_req_waiting,1700000000,20.0,,200",
        "http_req_duration,1700000000,3.0,1503,503",
        "http_req_duration,1700000000,0.0,1212,0",
        "dropped_iterations,1700000000,2.0,,",
    )
    load = Load(1.0)
    k6._read(csv.DictReader(lines), load)
    assert (load.sent, load.took_s, load.refused) == (5, [0.0205], 1)
    assert load.others == {"503": 1, "k6 error 1212": 1, "dropped": 2}


# ---- the work -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("work", [SMALL, SMALL_MANY, PHONE, MIXED], ids=lambda work: work.title)
def test_images_are_as_large_as_they_are_called(work: Work) -> None:
    assert len(work.images) == len({*work.images}) == work.variants * len(NAMES) * len(work.sizes_px)
    found = Counter(Image.open(io.BytesIO(data)).size for data in work.images)
    assert found == {size_px: work.variants * len(NAMES) for size_px in work.sizes_px}


def test_photographs_weigh_what_they_do_in_life() -> None:
    """Where a benchmark's images have hardly any bytes, there is nothing to read and nothing to decode."""
    for work, kilobytes in ((SMALL, 60), (PHONE, 1300)):
        assert sum(map(len, work.images)) / len(work.images) / 1000 == pytest.approx(kilobytes, rel=0.25)


# ---- the stand-in ---------------------------------------------------------------------------------------------------


def test_the_stand_in_answers_to_the_image() -> None:
    """Its class is the sum of the middle pixel: an answer to another image would be seen."""
    images = [jpeg(photograph(name)) for name in NAMES] * 5
    expected = [int(decode(memoryview(data), TRANSFORM, Limits().max_image_pixels)[112, 112].sum()) for data in images]
    with Engine(PipelineConfig(device="cpu", workers=2, threads=1), opener=open_stand_in) as engine:
        outcomes = engine.infer(images)
    found = [outcome.indices[0] for outcome in outcomes if isinstance(outcome, Prediction)]
    assert found == [value % 1000 for value in expected]
    assert len({*found}) > 3


def test_the_stand_in_sleeps_by_batch_and_image() -> None:
    assert StandIn((1, 32), 5).warm_up() == pytest.approx({1: 0.0021, 32: 0.0052})


@pytest.mark.parametrize(
    "context", [alone.pipeline, alone.loop, alone.stand_in_device, alone.model], ids=lambda context: context.__name__
)
def test_what_runs_alone_has_a_rate(context: Callable[[], AbstractContextManager[alone.Rate]]) -> None:
    with context() as rate:
        assert rate([jpeg(photograph("cat"))], 0.2) > 0


def test_peers_keep_the_limit_of_pillow() -> None:
    """Unless they are given Darkroom's decoder, which has one of its own."""
    program = "import benchmarks.peers.variants, PIL.Image; print(PIL.Image.MAX_IMAGE_PIXELS)"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(found.stdout) > 0


# ---- shares of the limit --------------------------------------------------------------------------------------------


class _Drifting:
    """A limit that says what it is told to."""

    def __init__(self, *rates: float) -> None:
        self._rates = iter(rates)

    def per_s(self, images: Sequence[bytes], *, for_s: float, clients: int) -> float:
        assert images
        assert clients
        assert for_s > 0
        return next(self._rates)


@contextmanager
def _steady() -> Iterator[Ask]:
    yield lambda _work: {"per_s": 50.0}


def _record(limit: _Drifting, rounds: int) -> Facts:
    (record,) = bench.measured(Contestant("x", [SMALL], _steady), limit, rounds)
    return record


def test_a_share_is_of_the_limits_around_it() -> None:
    record = _record(_Drifting(100, 104, 104, 96, 100), rounds=4)
    assert (record["what"], record["load"], record["per_s"], len(record["runs"])) == ("x", SMALL.title, 50.0, 4)
    assert (record["least_of_limit"], record["most_of_limit"]) == pytest.approx((50 / 104, 50 / 98))
    assert record["of_limit"] == pytest.approx((50 / 102 + 50 / 100) / 2)


def test_a_run_whose_limits_differ_is_made_again() -> None:
    """Twice: then it counts, whatever the machine does."""
    assert _record(_Drifting(100, 50, 50), rounds=1)["of_limit"] == 1.0
    assert _record(_Drifting(100, 50, 100, 50), rounds=1)["of_limit"] == pytest.approx(50 / 75)


def test_every_core_counts_in_the_limit() -> None:
    with Limit() as limit:
        assert limit.per_s([jpeg(photograph("cat"))], for_s=0.2, clients=64) > 0


def test_the_table_leaves_out_what_was_not_measured() -> None:
    record = {"what": "x", "load": "y", "per_s": 50.0, "of_limit": 0.5, "least_of_limit": 0.4, "most_of_limit": 0.6}
    assert bench.rows([record]) == [["x", "y", "50.0", "0.50 (0.40 to 0.60)", "", "", ""]]


def test_the_picture_has_a_bar_for_every_record() -> None:
    """Grouped by load, as long as the share says."""
    shares = {"least_of_limit": 0.4, "most_of_limit": 0.6}
    records = [
        {"what": what, "load": load, "of_limit": share, **shares}
        for what, load, share in (("a & b", "small", 0.25), ("Darkroom", "small", 0.5), ("Darkroom", "large", 1.0))
    ]
    root = ElementTree.fromstring(bars.svg(records))  # noqa: S314  our own
    name = "{http://www.w3.org/2000/svg}"
    widths = [float(bar.attrib["width"]) for bar in root.iter(f"{name}rect")]
    assert [width / widths[-1] for width in widths] == pytest.approx([0.25, 0.5, 1.0], abs=0.001)
    said = [text.text for text in root.iter(f"{name}text")]
    assert said == ["small", "a & b", "0.25", "Darkroom", "0.50", "limit", "large", "Darkroom", "1.00", "limit"]


def test_no_bar_leaves_the_picture() -> None:
    """What has no transform may do several times what the limit is."""
    record = {"what": "HTTP alone", "load": "small", "of_limit": 6.8, "least_of_limit": 6.0, "most_of_limit": 7.3}
    root = ElementTree.fromstring(bars.svg([record]))  # noqa: S314  our own
    (bar,) = root.iter("{http://www.w3.org/2000/svg}rect")
    assert float(bar.attrib["x"]) + float(bar.attrib["width"]) < float(root.attrib["width"])
    assert ">6.80<" in bars.svg([record])


# ---- latency --------------------------------------------------------------------------------------------------------


def test_latency_is_told_by_the_median_round() -> None:
    """And counts are added up."""
    rounds = [
        [latency._of(Load(1.0, sent=4, took_s=[took_s] * 2, others=Counter({"503": 1, "closed": 1})), 4.0, 0.01)]
        for took_s in (0.01, 0.02, 0.06)
    ]
    (row,) = latency.rows([[{"load": "x", **facts} for facts in records] for records in rounds])
    assert row == ["x", "2.0", "0.50 (0.50 to 0.50)", "20", "20", "2.0", "3 of 12", "3"]


def test_in_a_perfect_queue_an_image_waits_for_those_before_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    load = latency.perfect_queue([0.0, 0.0, 0.5, 2.5], peak_per_s=2.0)
    assert load.took_s == [1.0, 1.0, 1.5, 1.0]
    assert load.sent == 4


# ---- what grows -----------------------------------------------------------------------------------------------------


def test_a_share_while_something_grows_is_of_the_limits_around_it() -> None:
    rates = iter((7.0, 50.0, 60.0, 70.0))
    found = scaling._share(lambda: next(rates), _Drifting(100, 100, 200, 100), [b""], workers=2, rounds=3)
    assert found == {"per_s": 60.0, "of_limit": pytest.approx(70 / 150), "ms": pytest.approx(1000 / 60)}


def test_what_a_worker_has_of_its_own_is_found() -> None:
    """Less than what it shares with the process that it was forked from, which has imported torch."""

    def decoders() -> set[psutil.Process]:
        return {process for process in psutil.Process().children(recursive=True) if scaling._decodes(process)}

    before = decoders()
    with alone.pipeline(workers=2):
        own = [scaling._own_mib(process) for process in decoders() - before]
    assert len(own) == 2
    assert all(1 < mib < 150 for mib in own)
