"""Tests of a worker that an image has taken over: it fails with that image, and the replica runs no foreign code."""

import gc
import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from pipeline.bounds import MAX_UNBLAMED_DEATHS
from pipeline.decode.messages import DecodeResult, WorkerReady, to_bytes
from pipeline.decode.sandbox import ALL_CLOSED
from pipeline.decode.slots import Claim, Slots
from pipeline.decode.worker_process import DecodeChunk
from pipeline.decode.worker_progress import decoding_s, shape_of, spent_s
from pipeline.errors import DecoderCrashed, DecodeTimeout, UndecodableImage
from pipeline.input_spec import InputSpec
from pipeline.records import EncodedImage, Transform
from pipeline.task import Request
from tests.support.decode_bench import CAT, Bench, errors, started
from tests.support.takeover import Act, TakenOver, order, replicas_socket
from tests.support.waiting import until


class Bomb:
    """An object whose pickle creates the folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        """Create the folder when it is unpickled."""
        return os.mkdir, (self._folder,)


class _Sends:
    """An act that sends these bytes to the replica."""

    def __init__(self, name: str, record: bytes) -> None:
        self.__name__, self._record = name, record

    def __call__(self) -> None:
        replicas_socket().send(self._record)


def hang_up() -> None:
    replicas_socket().shutdown(socket.SHUT_RDWR)


RECORDS = {
    "garbage": b"\xff" * 1000,
    "half a record": to_bytes(DecodeResult(0, 2, {1: UndecodableImage("torn")}))[:-1],
    "other slots": to_bytes(DecodeResult(40, 3)),
    "too many images": to_bytes(DecodeResult(0, 1000)),
    "other positions": to_bytes(DecodeResult(0, 2, {9: UndecodableImage("not here")})),
    "skipped unasked": to_bytes(DecodeResult(0, 2, {}, frozenset({1}))),
    "ready again": to_bytes(WorkerReady(ALL_CLOSED)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bomb") / "exploded"


@pytest.fixture(scope="module")
def acts(folder: Path) -> dict[str, Act]:
    """Attacks that a worker makes when an image tells it to, by name."""
    records = {**RECORDS, "a pickle": pickle.dumps((0, Bomb(folder)))}
    return {name: _Sends(name, record) for name, record in records.items()} | {"hang up": hang_up}


@pytest.fixture(scope="module")
def bench(acts: dict[str, Act]) -> Iterator[Bench]:
    with started(1, transform=cast(Transform, TakenOver(*acts.values()))) as bench:
        yield bench


@pytest.mark.parametrize("name", [*RECORDS, "a pickle", "hang up"])
def test_a_record_that_no_worker_sends_ends_it(
    name: str, acts: dict[str, Act], bench: Bench, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid record ends its worker at once.

    The image is rejected, its neighbours get their predictions, and another worker starts.
    """
    (pid,) = until(lambda: bench.stage.pids)
    request = bench.submit([CAT, order(acts[name]), CAT])
    assert errors(request) == [None, DecoderCrashed, None]
    assert caplog.text.count("sent an invalid record and is replaced") == 2
    assert not folder.exists()
    assert until(lambda: bench.stage.pids) != [pid]


def _own_slots() -> Slots:
    return next(found for found in gc.get_objects() if isinstance(found, Slots))


def die_unblamed() -> None:
    """End its worker, which claims that no image was begun."""
    _own_slots().claims[:] = Claim.WAITING
    os._exit(1)


def seem_busy() -> None:
    """Do nothing, and keep claiming that the image has just begun."""
    slots = _own_slots()
    while True:
        slots.started_ns[:] = 2**63 - 1
        time.sleep(0.01)


def test_a_worker_that_claims_to_be_innocent_is_not_believed_for_ever() -> None:
    """A worker's claim that no image was begun is believed only a few times.

    Otherwise an image would end one worker after another.
    """
    with started(1, transform=cast(Transform, TakenOver(cast(Act, die_unblamed)))) as bench:
        request = bench.submit([CAT, order(cast(Act, die_unblamed)), CAT])
        assert errors(request) == [None, DecoderCrashed, None]
        assert request.tasks[1].unblamed_deaths == MAX_UNBLAMED_DEATHS + 1


def test_a_worker_that_claims_to_be_busy_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is ended after the time that all of its images may take together, whatever times it claims."""
    monkeypatch.setattr("pipeline.decode.worker_health.CLAIM_TIMEOUT_S", 0.1)
    with started(1, decode_timeout_s=0.5, transform=cast(Transform, TakenOver(cast(Act, seem_busy)))) as bench:
        assert errors(bench.submit([order(cast(Act, seem_busy))])) == [DecodeTimeout]


def test_times_that_cannot_be_are_bounded() -> None:
    """Impossible times that a worker writes are bounded, because they go into statistics and sums."""
    slots = Slots(2, InputSpec.of_pixels(4))
    for started_ns, decode_ns in [(2**63 - 1, 2**63 - 1), (0, 2**63 - 1), (-(2**63), -(2**63)), (5, -7)]:
        slots.started_ns[:], slots.decode_ns[:], slots.claims[:] = started_ns, decode_ns, (Claim.DECODED, Claim.STARTED)
        now_s = time.monotonic()
        chunk = DecodeChunk(0, Request([EncodedImage(CAT)] * 2).tasks, 1, 1, cost_s=1.0)
        assert 0 <= decoding_s(0, slots) <= now_s + 1
        assert 0 <= spent_s(chunk, slots) <= 2 * (now_s + 1)


@pytest.mark.parametrize("claimed", [(0, -5, 9), (-(2**31), 0, 0)])
def test_sizes_that_cannot_be_are_bounded(claimed: tuple[int, int, int]) -> None:
    """Impossible image sizes that a worker writes are bounded, because the head's geometry is divided by them."""
    slots = Slots(2, InputSpec.of_pixels(4))
    slots.shapes[1] = claimed
    assert shape_of(1, slots) == (1, 1, 1)
    slots.shapes[1] = 451, 300, 8
    assert shape_of(1, slots) == (451, 300, 8)
