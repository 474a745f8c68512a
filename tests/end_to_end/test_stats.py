"""Tests of GET /stats, of a service that is put into each state on purpose."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from harness.local_service import Document
from harness.photographs import jpeg, photograph
from tests.support.image_files import slow_png
from tests.support.running_service import Service, live_config, opened
from tests.support.waiting import until

CAT = jpeg(photograph("cat"))
PATIENTLY = 30.0  # max_queue_wait_s: nothing is refused


def _stats(service: Service, seconds: int) -> Document:
    stats: Document = service.client.get("/stats", params={"seconds": seconds}).raise_for_status().json()
    return stats


@contextmanager
def _clients(service: Service, count: int, images: Sequence[bytes]) -> Iterator[None]:
    """Run clients that send these images, one request after the other, until the block ends."""
    leave = threading.Event()

    def send() -> None:
        while not leave.is_set():
            service.post_files(*images)

    clients = [threading.Thread(target=send) for _ in range(count)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        leave.set()
        for client in clients:
            client.join()


def _held(service: Service, state: str, fully: Callable[[Document], bool] = lambda _: True) -> Document:
    """Wait until the service is in a state, and `fully` so; return the figures of two seconds of it."""
    for _ in range(30):
        time.sleep(1.0)  # the figures change once a second, and more requests would be a load of their own
        stats = _stats(service, 2)
        if stats["state"] == state and fully(stats):
            break
    assert stats["verdict"].startswith(f"{state}: ")
    assert fully(stats)
    return stats


def test_a_service_that_nobody_asks_for_predictions_is_idle(service: Service) -> None:
    """A service without predictions is idle; other requests, valid or not, do not count."""
    time.sleep(4.0)  # longer than the window, plus the current second
    assert service.client.get("/stats", params={"seconds": 0}).status_code == 400
    assert service.client.get("/nowhere").status_code == 404
    stats = _held(service, "idle")
    assert (stats["requests"], stats["latency_ms"]) == ({}, None)


def test_small_photographs_keep_the_device_busy(service: Service) -> None:
    """Small photographs keep the CPU's model busy, as it takes several times their decoding.

    On a GPU this need not hold.
    """
    if service.info()["device"] != "cpu":
        pytest.skip("the service runs its model on a GPU, which small photographs need not keep busy")
    with live_config(service, max_queue_wait_s=PATIENTLY), _clients(service, 4, [CAT] * 8):
        stats = _held(service, "device-bound", lambda stats: stats["images"].get("predicted", 0) > 8)
    assert stats["device"]["busy"] > stats["decode_workers"]["busy"]
    assert stats["device"]["images_per_batch"] >= 1
    assert stats["stages_ms"]["model"] > stats["stages_ms"]["copy"]


def test_large_ones_keep_the_workers_busy(service: Service) -> None:
    """Images of 31 megapixels, which no decoder can reduce, keep the workers busy."""
    clients = (
        2 * service.info()["decode_workers"] + 2
    )  # one image in work and one waiting for each worker, on a large machine too
    with live_config(service, max_queue_wait_s=PATIENTLY), _clients(service, clients, [slow_png()]):
        stats = _held(service, "decode-bound", lambda stats: stats["decode_workers"]["busy"] > 0.8)
    assert stats["decode_workers"]["busy"] <= 1
    assert stats["stages_ms"]["decode"] > stats["stages_ms"]["model"]


def test_more_than_can_be_answered_is_an_overload(service: Service) -> None:
    with live_config(service, max_queue_wait_s=0.001), _clients(service, 12, [CAT] * 4):
        stats = _held(service, "overloaded")
    assert stats["requests"]["Overloaded"] > 0


def test_bodies_that_come_slowly_are_the_networks_fault(service: Service) -> None:
    """Slow bodies, here with half of each a second late, are counted as network-bound."""

    def send() -> None:
        with opened(service, content_length=len(CAT)) as connection:
            connection.send(CAT[:1000])
            time.sleep(1.0)
            connection.send(CAT[1000:])
            assert connection.getresponse().status == 200

    _held(service, "idle")
    for client in [threading.Thread(target=send) for _ in range(3)]:
        client.start()
    stats = _held(service, "network-bound")
    assert stats["stages_ms"]["read"] > 900


def test_images_that_were_rejected_are_counted(service: Service) -> None:
    """A rejected image is counted. Alone it ends its request; among many the request is answered."""
    service.post(b"hello", "application/octet-stream")
    service.post_files(CAT, b"hello").raise_for_status()
    until(lambda: _stats(service, 60)["images"].get("UnsupportedFormat", 0) >= 2)
    assert _stats(service, 60)["requests"]["UnsupportedFormat"] >= 1


@pytest.mark.parametrize("seconds", ["0", "61", "-1", "1.5", "all", ""])
def test_what_is_no_number_of_seconds_is_refused(service: Service, seconds: str) -> None:
    refused = service.client.get("/stats", params={"seconds": seconds})
    assert refused.status_code == 400
    assert "from 1 to 60" in refused.json()["detail"]
