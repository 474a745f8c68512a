"""The callers of a soak, patient, hasty, slow and broken ones, and the outcome of each."""

import asyncio
import base64
import random
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import httpx
import orjson

from tests.soak.judgement import AnswerKind, Ask, HttpAnswer, Truth, Verdict, judge
from tests.soak.samples import Corpus, Sample

PATIENCE_S: Final = 120.0
TRIES: Final = 6

SHARES: Final = {
    "patient": 0.86,
    "gone": 0.04,  # leaves after some milliseconds
    "deadline": 0.04,  # sends a deadline
    "slow": 0.02,  # its body takes one or two seconds
    "stalled": 0.01,  # its body stops half way
    "cut": 0.01,  # its connection ends half way
    "malformed": 0.02,
}
_SHAPES: Final = {"raw": 0.7, "multipart": 0.2, "json": 0.1}
_LARGEST: Final = {"raw": 1, "multipart": 32, "json": 8}

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that was sent; times in seconds since the traffic began."""

    started_s: float
    ended_s: float
    status: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Record:
    """The outcome of one caller, which is that of its last attempt. A caller without attempts left on purpose."""

    caller: str
    shape: str
    images: int
    attempts: tuple[Attempt, ...]


class Callers:
    """The callers, one method for each kind; each call is one caller from its start to its end.

    Args:
        url: address of the service.
        corpus: files that they send.
        truth: right answers to these files.
        rng: source of their random choices.
        clock: seconds since the traffic began.
    """

    def __init__(self, url: str, corpus: Corpus, truth: Truth, rng: random.Random, clock: Clock) -> None:
        self._url, self._corpus, self._truth, self._rng, self._clock = url, corpus, truth, rng, clock
        self._http = httpx.AsyncClient(
            base_url=url, timeout=PATIENCE_S, trust_env=False, limits=httpx.Limits(max_connections=None)
        )

    async def close(self) -> None:
        """Close the kept connections."""
        await self._http.aclose()

    async def call(self, caller: str) -> Record:
        """Run one caller of this kind, one of `SHARES`."""
        record: Record = await getattr(self, f"_{caller}")()
        return record

    # ---- one kind each ----------------------------------------------------------------------------------------------

    async def _patient(self) -> Record:
        """Wait as long as Retry-After says, and try again."""
        shape, samples = self._drawn()
        attempts: list[Attempt] = []
        while len(attempts) < TRIES:
            answer, attempt = await self._post(shape, samples)
            attempts.append(attempt)
            if attempt.verdict.kind != AnswerKind.REFUSED:
                break
            if len(attempts) < TRIES:
                await asyncio.sleep(int(answer.headers["retry-after"]))
        return Record("patient", shape, len(samples), tuple(attempts))

    async def _gone(self) -> Record:
        shape, samples = self._drawn()
        attempts: tuple[Attempt, ...] = ()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._rng.uniform(0.005, 0.5)):
                attempts = ((await self._post(shape, samples))[1],)
        return Record("gone", shape, len(samples), attempts)

    async def _deadline(self) -> Record:
        shape, samples = self._drawn()
        headers = {"X-Request-Timeout-Ms": str(self._rng.randint(1, 2000))}
        _, attempt = await self._post(shape, samples, headers)
        return Record("deadline", shape, len(samples), (attempt,))

    async def _slow(self) -> Record:
        sample, pause_s = self._corpus.draw(self._rng), self._rng.uniform(0.05, 0.2)
        headers = {"Content-Type": sample.media_type, "Content-Length": str(len(sample.data))}
        ask = Ask((sample,), many=False)
        _, attempt = await self._judged(ask, content=_in_pieces(sample.data, 10, pause_s), headers=headers)
        return Record("slow", "raw", 1, (attempt,))

    async def _malformed(self) -> Record:
        """Send a request that is wrong as a whole, whatever image it holds."""
        sample = self._corpus.draw(self._rng)
        kind, data, status = self._rng.choice(
            [
                ("image/jpeg", b"", HTTPStatus.BAD_REQUEST),
                ("text/plain", sample.data, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
                ("application/json", b'{"images": ["' + base64.b64encode(sample.data), HTTPStatus.BAD_REQUEST),
                ("multipart/form-data; boundary=x", b"--x\r\n\r\n" + sample.data[:1000], HTTPStatus.BAD_REQUEST),
            ]
        )
        ask = Ask((), many=False, refusal=status)
        _, attempt = await self._judged(ask, content=data, headers={"Content-Type": kind})
        return Record("malformed", "raw", 1, (attempt,))

    async def _stalled(self) -> Record:
        """Send half of the body and wait, which must be refused before the rest is sent."""
        ask = Ask((), many=False, refusal=HTTPStatus.REQUEST_TIMEOUT)
        started_s = self._clock()
        reader, writer = await self._half_sent()
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await _answer(reader)
        except (TimeoutError, OSError, EOFError, ValueError) as error:
            answer = _broken(error)
        writer.close()
        verdict = judge(ask, answer, self._truth)
        return Record("stalled", "raw", 1, (Attempt(started_s, self._clock(), answer.status, verdict),))

    async def _cut(self) -> Record:
        with suppress(OSError):
            _, writer = await self._half_sent()
            await asyncio.sleep(self._rng.uniform(0.0, 0.2))
            writer.close()
        return Record("cut", "raw", 1, ())

    # ---- on the wire ------------------------------------------------------------------------------------------------

    def _drawn(self) -> tuple[str, list[Sample]]:
        """Draw the form of a request and its images: few more often than many."""
        (shape,) = self._rng.choices(list(_SHAPES), list(_SHAPES.values()))
        largest = _LARGEST[shape]
        count = 1 if largest == 1 else int(2 * (largest / 2 + 0.5) ** self._rng.random())
        return shape, [self._corpus.draw(self._rng) for _ in range(count)]

    async def _post(
        self, shape: str, samples: list[Sample], headers: dict[str, str] | None = None
    ) -> tuple[HttpAnswer, Attempt]:
        headers = headers or {}
        ask = Ask(tuple(samples), many=shape != "raw", has_deadline=bool(headers))
        if shape == "multipart":
            files = [("image", (sample.name, sample.data, sample.media_type)) for sample in samples]
            return await self._judged(ask, files=files, headers=headers)
        if shape == "json":
            document = {"images": [base64.b64encode(sample.data).decode() for sample in samples]}
            headers = {**headers, "Content-Type": "application/json"}
            return await self._judged(ask, content=orjson.dumps(document), headers=headers)
        headers = {**headers, "Content-Type": samples[0].media_type}
        return await self._judged(ask, content=samples[0].data, headers=headers)

    async def _judged(self, ask: Ask, **request: Any) -> tuple[HttpAnswer, Attempt]:
        started_s = self._clock()
        try:
            response = await self._http.post("/predict", **request)
            answer = HttpAnswer(response.status_code, response.headers, response.content)
        except httpx.TransportError as error:
            answer = _broken(error)
        return answer, Attempt(started_s, self._clock(), answer.status, judge(ask, answer, self._truth))

    async def _half_sent(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection, announce a whole body, and send half of it."""
        data, address = self._corpus.draw(self._rng).data, self._url.removeprefix("http://")
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /predict HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data[: len(data) // 2])
        return reader, writer


async def _in_pieces(data: bytes, pieces: int, pause_s: float) -> AsyncIterator[bytes]:
    size = -(-len(data) // pieces)
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(pause_s)


def _broken(error: Exception) -> HttpAnswer:
    return HttpAnswer(0, {}, f"{type(error).__name__}: {error}".encode())


async def _answer(reader: asyncio.StreamReader) -> HttpAnswer:
    """Read one answer by its length: the balancer leaves the connection open for the rest of the body.

    Raises:
        EOFError, ValueError: the answer is not complete, or not HTTP.
    """
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return HttpAnswer(int(status.split()[1]), headers, body)
