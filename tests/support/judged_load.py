"""Constant load: clients that send one request after another, each with its own picture, and judge every answer.

The load is closed-loop: there are never more requests in flight than clients, which bounds the losses by a killed
process.
"""

import itertools
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from harness.photographs import jpeg, photograph
from tests.support.waiting import PATIENCE_S

LABELS = {
    "cat": "Egyptian cat",
    "espresso": "espresso",
    "astronaut": "bobsled",
    "rocket": "drilling platform",
    "temple": "palace",
    "flower": "hen-of-the-woods",
}
"""Labels that mobilenet_v2 gives small pictures of these names, each at least 7 percent above the next class."""


def small_picture(name: str) -> bytes:
    """Make a JPEG of one of the pictures in `LABELS`, as small as its label was found for."""
    picture = photograph(name).copy()
    picture.thumbnail((320, 320))
    return jpeg(picture)


class JudgedLoad:
    """Clients that send one request after another until they are stopped.

    Args:
        url: address of the service.
        clients: number of clients.
        fresh: whether every request has a connection of its own. Otherwise a client keeps one as long as it can.

    Attributes:
        answers: counts by status, or by the name of the error if a connection broke.
        wrong: answers with the label or the id of another request.
        unanswered: requests that got neither an answer nor the end of their connection.
        lost: the answer or error of every request without a right answer, by request id.
    """

    def __init__(self, url: str, clients: int, *, fresh: bool = False) -> None:
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.unanswered: list[str] = []
        self.lost: dict[str, str] = {}
        self._url, self._fresh, self._stop, self._lock = url, fresh, threading.Event(), threading.Lock()
        names = itertools.islice(itertools.cycle(LABELS), clients)
        self._threads = [threading.Thread(target=self._ask, args=(name,), name=f"client-{name}") for name in names]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every client finish its request."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def right(self) -> int:
        """Return the number of right answers."""
        return self.answers["200"] - len(self.wrong)

    def _ask(self, name: str) -> None:
        picture, label = small_picture(name), LABELS[name]
        client = self._client()
        while not self._stop.is_set():
            if self._fresh:
                client.close()
                client = self._client()
            self._ask_once(client, picture, label)
        client.close()

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self._url, timeout=PATIENCE_S, trust_env=False)

    def _ask_once(self, client: httpx.Client, picture: bytes, label: str) -> None:
        request_id = uuid.uuid4().hex
        headers = {"Content-Type": "image/jpeg", "X-Request-ID": request_id}
        try:
            response = client.post("/predict", content=picture, headers=headers)
        except httpx.TimeoutException as error:
            self._count(request_id, type(error).__name__, self.unanswered)
        except httpx.TransportError as error:
            self._count(request_id, type(error).__name__)
        else:
            self._judge(request_id, response, label)

    def _judge(self, request_id: str, response: httpx.Response, label: str) -> None:
        if response.status_code != httpx.codes.OK:
            seen = f"{dict(response.headers)} {response.text}"
            self._count(request_id, str(response.status_code), seen=seen)
            return
        got, answers_to = response.json()["predictions"][0]["label"], response.headers["x-request-id"]
        self._count(request_id, "200")
        if (got, answers_to) != (label, request_id):
            with self._lock:
                self.wrong.append(f"{request_id}, {label}: got {got}, for {answers_to}")

    def _count(self, request_id: str, kind: str, into: list[str] | None = None, seen: str = "") -> None:
        with self._lock:
            self.answers[kind] += 1
            if kind != "200":
                self.lost[request_id] = f"{kind} {seen}"
            if into is not None:
                into.append(request_id)


@contextmanager
def under_load(url: str, clients: int = 6, *, fresh: bool = False) -> Iterator[JudgedLoad]:
    """Run clients throughout the block; afterwards their results are complete."""
    load = JudgedLoad(url, clients, fresh=fresh)
    try:
        yield load
    finally:
        load.stop()
