"""Tests of heavy load: overload, abandoned requests, and large requests beside small ones."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from harness.local_service import Document
from harness.photographs import jpeg, photograph
from tests.support.image_files import slow_png
from tests.support.running_service import Service, live_config
from tests.support.waiting import until

CAT, ESPRESSO = jpeg(photograph("cat")), jpeg(photograph("espresso"))


def _counts(service: Service) -> Document:
    counts: Document = service.info()["counts"]
    return counts


def _ended(service: Service, outcome: str) -> int:
    """Return the number of requests with that outcome since the start."""
    return int(_counts(service)["requests"].get(outcome, 0))


def _label(result: Document) -> str:
    label: str = result["predictions"][0]["label"]
    return label


# ---- overload -------------------------------------------------------------------------------------------------------


def test_what_would_wait_too_long_is_refused_at_once(service: Service) -> None:
    """Under overload accepted requests get right answers, and the others are told when to come again."""
    before = _ended(service, "Overloaded")

    def ask(number: int) -> list[httpx.Response]:
        image = (CAT, ESPRESSO)[number % 2]
        return [service.post(image, params={"top_k": 1}) for _ in range(3)]

    with live_config(service, max_queue_wait_s=0.1), ThreadPoolExecutor(64) as clients:
        answers = list(clients.map(ask, range(64)))
        for number, answer in ((number, answer) for number, some in enumerate(answers) for answer in some):
            if answer.status_code == 200:
                assert (_label(answer.json()) == "espresso") == (number % 2 == 1)
            else:
                assert (answer.status_code, answer.json()["type"]) == (503, "urn:darkroom:overloaded"), answer.text
                assert int(answer.headers["retry-after"]) >= 1
                assert "max_queue_wait_s" in answer.json()["detail"]
        statuses = Counter(answer.status_code for some in answers for answer in some)
        assert set(statuses) == {200, 503}
        until(lambda: service.post(CAT).status_code == 200)
    assert _ended(service, "Overloaded") - before >= statuses[503]


def test_a_large_request_leaves_single_ones_their_turn(service: Service) -> None:
    """Single images are answered while a request of 256 images is in work."""
    with live_config(service, max_queue_wait_s=10.0), ThreadPoolExecutor(1) as client:
        large = client.submit(service.post_files, *[CAT] * 256)
        until(lambda: service.info()["in_work"] > 0)
        singles = 0
        while not large.done():
            assert _label(service.post(ESPRESSO).raise_for_status().json()) == "espresso"
            singles += 1
        assert len(large.result().raise_for_status().json()["results"]) == 256
    assert singles >= 3


# ---- answers that nobody wants any more -----------------------------------------------------------------------------


def test_a_request_whose_deadline_has_passed_is_given_up(service: Service) -> None:
    """A request past its deadline is answered 504. Its images that wait are dropped and counted."""
    dropped, late = _counts(service)["images_dropped"], _ended(service, "DeadlineExceeded")
    expired = service.post_files(*[slow_png()] * 40, headers={"X-Request-Timeout-Ms": "2000"})
    assert (expired.status_code, expired.json()["type"]) == (504, "urn:darkroom:deadline-exceeded"), expired.text
    assert "within 2 s" in expired.json()["detail"]
    until(lambda: _counts(service)["images_dropped"] > dropped)
    assert _ended(service, "DeadlineExceeded") == late + 1
    until(lambda: service.info()["in_work"] == 0)
    assert service.post(CAT).status_code == 200


def test_the_configured_deadline_holds_for_everybody(service: Service) -> None:
    """A client may shorten the configured deadline but not lengthen it."""
    with live_config(service, request_timeout_s=0.2):
        expired = service.post_files(*[slow_png()] * 20, headers={"X-Request-Timeout-Ms": "60000"})
    assert (expired.status_code, expired.json()["type"]) == (504, "urn:darkroom:deadline-exceeded"), expired.text


def test_a_deadline_that_cannot_be_met_is_refused_at_once(service: Service) -> None:
    """A deadline that cannot be met is refused at once and counted as refused; none of its images is decoded."""
    with live_config(service, max_queue_wait_s=10.0), ThreadPoolExecutor(1) as client:
        large = client.submit(service.post_files, *[CAT] * 256)
        until(lambda: service.info()["in_work"] > 100)
        refused = service.post_files(*[CAT] * 200, headers={"X-Request-Timeout-Ms": "1000"})
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:darkroom:overloaded"), refused.text
        large.result().raise_for_status()


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", ""])
def test_a_deadline_that_is_none_is_refused(service: Service, value: str) -> None:
    refused = service.post(CAT, headers={"X-Request-Timeout-Ms": value})
    assert refused.status_code == 400
    assert "X-Request-Timeout-Ms" in refused.json()["detail"]


def test_images_of_a_client_that_has_gone_are_not_decoded(service: Service) -> None:
    """The waiting images of a client that has gone are dropped and counted, and their memory is free again."""
    before = _counts(service)["images_dropped"]
    with live_config(service, max_queue_wait_s=10.0):
        leaving = threading.Thread(target=_send_and_leave, args=(service,))
        leaving.start()
        leaving.join()
        until(lambda: _counts(service)["images_dropped"] > before)
        until(lambda: service.info()["in_work"] == 0)
        assert service.post(CAT).status_code == 200


def _send_and_leave(service: Service) -> None:
    with pytest.raises(httpx.ReadTimeout):
        service.post_files(*[slow_png()] * 40, timeout=httpx.Timeout(60, read=1.0))
