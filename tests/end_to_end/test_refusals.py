"""Tests of the service's refusals: whose fault it was, what to do, and that no other client is affected."""

import base64
import http.client

import httpx
import pytest

from harness.costly_images import lossless_webp
from harness.local_service import Document
from harness.photographs import jpeg, photograph
from tests.support.answers import CAT_LABELS, best
from tests.support.image_files import BAD
from tests.support.running_service import Service, live_config, opened
from tests.support.waiting import until

CAT, ESPRESSO = jpeg(photograph("cat")), jpeg(photograph("espresso"))


def _is_problem(response: httpx.Response, status: int, kind: str) -> Document:
    """Check a refusal's status, type and form, and that it shows no internals; return it."""
    problem: Document = response.json()
    assert (response.status_code, problem["type"]) == (status, f"urn:darkroom:{kind}"), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return problem


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_image_is_refused_alone(service: Service, name: str) -> None:
    """A bad image is refused with a status that says whose fault it is, and a message that says what to do."""
    data, error = BAD[name]
    if not data:
        _is_problem(service.post(data), 400, "empty-request")
        return
    statuses = {"TooManyPixels": 413, "UnsupportedFormat": 415, "UndecodableImage": 422}
    kind = {"TooManyPixels": "too-many-pixels", "UnsupportedFormat": "unsupported-format"}.get(error.__name__)
    _is_problem(service.post(data), statuses[error.__name__], kind or "undecodable-image")


def test_images_that_cost_too_much_are_refused_by_their_headers(service: Service) -> None:
    """Images that cost too much, alone or together, are refused by their headers without any decoding."""
    problem = _is_problem(service.post(lossless_webp((7000, 7000))), 413, "image-too-costly")
    assert "0.5 s (max_image_work_s)" in problem["detail"]
    problem = _is_problem(service.post_files(*[lossless_webp((5300, 5300))] * 64), 413, "request-too-costly")
    assert "20 s (max_request_work_s)" in problem["detail"]


def test_bad_images_leave_their_neighbours(service: Service) -> None:
    """Each bad image has an error in its own place, and every good one its prediction."""
    bad = [data for data, _ in BAD.values()]
    mixed = [image for data in bad for image in (CAT, data)] + [ESPRESSO]
    results = service.post_files(*mixed).raise_for_status().json()["results"]
    assert len(results) == len(mixed)
    assert all(best(result) in CAT_LABELS for result in results[0:-1:2])
    assert all(400 <= result["error"]["status"] < 500 for result in results[1::2])
    assert best(results[-1]) == "espresso"


def test_base64_that_is_none_leaves_its_neighbours(service: Service) -> None:
    body = {"images": ["not base64!", base64.b64encode(CAT).decode(), "data:image/png,"]}
    first, second, third = service.client.post("/predict", json=body).raise_for_status().json()["results"]
    assert first["error"]["type"] == "urn:darkroom:malformed-encoding"
    assert best(second) in CAT_LABELS
    assert third["error"]["type"] == "urn:darkroom:empty-image"


@pytest.mark.parametrize(
    ("content", "content_type", "status", "kind", "says"),
    [
        (CAT, "application/x-www-form-urlencoded", 415, "unsupported-content-type", "Content-Type: image/jpeg"),
        (b"hello", "text/plain", 415, "unsupported-content-type", "text/plain"),
        (b"", "image/jpeg", 400, "empty-request", "empty"),
        (b"{", "application/json", 400, "malformed-request", "not JSON"),
        (b'{"image": "x"}', "application/json", 400, "malformed-request", '"images"'),
        (b'{"images": [1]}', "application/json", 400, "malformed-request", "base64"),
        (b'{"images": "x"}', "application/json", 400, "malformed-request", "base64"),
        (b"[]", "application/json", 400, "malformed-request", '"images"'),
        (b'{"images": []}', "application/json", 400, "empty-request", "no image"),
        (b"{" + b'"images": [' + b",".join([b'""'] * 257) + b"]}", "application/json", 413, "too-many-images", "256"),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 400, "empty-request", "no image"),
        (b"--x\r\n", "multipart/form-data; boundary=x", 400, "malformed-request", "closing boundary"),
        (b"nothing", "multipart/form-data; boundary=x", 400, "malformed-request", "cannot be read"),
        (b"", "multipart/form-data", 400, "malformed-request", "boundary"),
    ],
)
def test_a_bad_request_is_refused(
    service: Service, content: bytes, content_type: str, status: int, kind: str, says: str
) -> None:
    """The detail of a refused request names the error, or the right form."""
    assert says in _is_problem(service.post(content, content_type), status, kind)["detail"]


@pytest.mark.parametrize("top_k", ["0", "11", "-1", "x", "1.5", "9" * 50, ""])
def test_a_bad_top_k_is_refused(service: Service, top_k: str) -> None:
    problem = _is_problem(service.post(CAT, params={"top_k": top_k}), 400, "malformed-request")
    assert "from 1 to 10" in problem["detail"]


def test_a_part_that_is_no_file_is_refused(service: Service) -> None:
    """A part without a file is refused with a hint: `curl -F image=photo.jpg` without the @ sends only the name."""
    body = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nphoto.jpg\r\n--x--\r\n'
    problem = _is_problem(service.post(body, "multipart/form-data; boundary=x"), 400, "malformed-request")
    assert "mind the @" in problem["detail"]


def test_too_many_parts_are_refused(service: Service) -> None:
    problem = _is_problem(service.post_files(*[CAT] * 257), 413, "too-many-images")
    assert "256" in problem["detail"]


@pytest.mark.parametrize(
    ("content_type", "key", "kind"),
    [
        ("image/jpeg", "max_image_bytes", "image-too-large"),
        ("application/json", "max_request_bytes", "request-too-large"),
        ("multipart/form-data; boundary=x", "max_request_bytes", "request-too-large"),
    ],
)
def test_a_body_announced_too_large_is_refused_before_it_is_sent(
    service: Service, content_type: str, key: str, kind: str
) -> None:
    """A body whose Content-Length is too large is refused while the client has sent only the headers."""
    limit = service.info()["user_config"][key]
    connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Type", content_type)
    connection.putheader("Content-Length", str(limit + 1))
    connection.endheaders()
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    assert response.status == 413
    assert f"urn:darkroom:{kind}" in body
    assert str(limit) in body
    assert str(limit + 1) in body


def test_a_body_without_length_is_refused_when_it_has_become_too_large(service: Service) -> None:
    """A body without a length is counted while it is read, and refused above the limit."""
    limit = service.info()["user_config"]["max_image_bytes"]
    pieces = (b"x" * (1 << 20) for _ in range((limit >> 20) + 1))
    response = service.client.post("/predict", content=pieces, headers={"Content-Type": "image/jpeg"})
    assert str(limit) in _is_problem(response, 413, "image-too-large")["detail"]


def test_an_image_too_large_among_many_is_refused_in_its_place(service: Service) -> None:
    limit = service.info()["user_config"]["max_image_bytes"]
    first, second = service.post_files(CAT + b"\0" * limit, CAT).raise_for_status().json()["results"]
    assert first["error"]["type"] == "urn:darkroom:image-too-large"
    assert str(limit) in first["error"]["detail"]
    assert best(second) in CAT_LABELS


def test_a_body_that_does_not_arrive_is_refused(service: Service) -> None:
    """A body that does not arrive is refused after a bounded time. Meanwhile it delays no other request."""
    with live_config(service, body_timeout_s=1.0), opened(service, content_length=1000) as connection:
        connection.send(b"\xff\xd8")
        assert service.post(CAT).status_code == 200
        response = connection.getresponse()
        body = response.read().decode()
    assert response.status == 408
    assert "urn:darkroom:body-timeout" in body
    assert "within 1 s" in body


def test_a_full_replica_refuses_at_once_and_says_when_to_come_back(service: Service) -> None:
    """Memory is counted as bytes arrive: a body that is only announced blocks no other, a half-sent one may."""
    limits = {"max_image_bytes": 100_000, "max_request_bytes": 100_000, "max_bytes_in_flight": 100_000}

    def refusals() -> list[httpx.Response]:
        """Return refusals of a body with a length and of one without; before the other body arrives there is none."""
        with opened(service, content_length=90_000) as connection:
            assert service.post(CAT).status_code == 200
            connection.send(bytes(80_000))
            until(lambda: service.info()["held_bytes"] == 80_000)
            answers = [service.post(CAT), service.client.post("/predict", content=iter([CAT]))]
        return answers if {answer.status_code for answer in answers} == {503} else []

    with live_config(service, body_timeout_s=10.0, **limits):
        for refused in until(refusals):
            assert refused.json()["type"] == "urn:darkroom:overloaded"
            assert int(refused.headers["retry-after"]) >= 1
            assert "100000" in refused.json()["detail"]
        until(lambda: service.post(CAT).status_code == 200)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/", 404), ("GET", "/predict", 405)])
def test_what_is_not_served_is_a_problem_too(service: Service, method: str, path: str, status: int) -> None:
    response = service.client.request(method, path)
    assert response.status_code == response.json()["status"] == status
    assert response.headers["content-type"] == "application/problem+json"
    assert "/openapi.json" in response.json()["detail"]


def test_a_refusal_is_logged_with_its_request_id(service: Service) -> None:
    """A refusal is logged at once with its request id; Serve would buffer a thousand lines."""
    identity = "test-of-the-log-7f3a"
    service.post(b"hello", headers={"X-Request-ID": identity})
    service.post_files(CAT, b"hello", headers={"X-Request-ID": identity})

    def lines() -> str:
        return "\n".join(line["message"] for line in service.log_lines() if line.get("request_id") == identity)

    until(lambda: "image 1 refused" in lines() and "refused: UnsupportedFormat" in lines())
