"""Client connection to a service: requests are bytes made beforehand, and answers are parsed as little as possible.

Clients share the machine with the service that they measure; this client takes a tenth of aiohttp's processor time.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from harness.target import Form, Target

LOST_AFTER_S: Final = 60.0
"""Seconds after which a request without an answer counts as lost."""


@dataclass(frozen=True, slots=True)
class ServiceReply:
    """The answer to one request.

    Args:
        status: status of the response; 0 without a response.
        retry_after_s: seconds of the Retry-After header; 0 without one.
        body: body of the response; empty for a chunked response.
        ended: end of the connection, if it ended without a response.
    """

    status: int
    retry_after_s: float = 0.0
    body: bytes = b""
    ended: str = ""

    @property
    def outcome(self) -> str:
        """The status, or the end of the connection, as a key for counting."""
        return str(self.status or self.ended)


def request_of(target: Target, form: Form) -> bytes:
    """Make a whole HTTP request as bytes."""
    head = (
        f"POST {target.path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
        f"Content-Type: {form.content_type}\r\nContent-Length: {len(form.body)}\r\n\r\n"
    )
    return head.encode() + form.body


class Connection(asyncio.Protocol):
    """A connection for one request at a time, opened when needed.

    Args:
        target: the service.
        patience_s: seconds after which a request without an answer is given up.
    """

    def __init__(self, target: Target, patience_s: float = LOST_AFTER_S) -> None:
        self._target, self._patience_s = target, patience_s
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._headers: dict[bytes, bytes] | None = None  # of the answer, once they have arrived
        self._last: ServiceReply | None = None  # last reply before the server closes the connection
        self._body_at = 0
        self._reply: asyncio.Future[ServiceReply]

    async def ask(self, request: bytes) -> ServiceReply:
        """Send one request and wait for its answer."""
        loop = asyncio.get_running_loop()
        self._reply = loop.create_future()
        timer = loop.call_later(self._patience_s, self._give_up)
        try:
            if self._transport is None or self._transport.is_closing():
                self._forget()
                self._transport, _ = await loop.create_connection(lambda: self, self._target.host, self._target.port)
            self._transport.write(request)
            return await self._reply
        except OSError as error:
            return ServiceReply(0, ended=type(error).__name__)
        finally:
            timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer; called by asyncio."""
        self._received += data
        if self._headers is None and (end := self._received.find(b"\r\n\r\n")) >= 0:
            self._headers, self._body_at = _headers(bytes(self._received[:end])), end + 4
        if self._headers is not None and self._is_whole(self._headers):
            reply = self._read(self._headers)
            if self._headers.get(b"connection", b"").lower() == b"close":  # as HAProxy sends when it is reloaded
                self._last = reply
                self.close()
            else:
                self._finish(reply)
            self._forget()

    def _is_whole(self, headers: Mapping[bytes, bytes]) -> bool:
        if (length := headers.get(b"content-length")) is not None:
            return len(self._received) - self._body_at >= int(length)
        return self._received.endswith(b"\r\n0\r\n\r\n")  # chunked: the last chunk is empty

    def _read(self, headers: Mapping[bytes, bytes]) -> ServiceReply:
        body = bytes(self._received[self._body_at :]) if b"content-length" in headers else b""
        return ServiceReply(int(self._received[9:12]), float(headers.get(b"retry-after", 0)), body)

    def _forget(self) -> None:
        self._received.clear()
        self._headers = None

    def connection_lost(self, error: Exception | None) -> None:
        """Note that either side has closed the connection; called by asyncio."""
        last, self._last = self._last, None
        self._finish(last or ServiceReply(0, ended=type(error).__name__ if error else "closed"))

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def _give_up(self) -> None:
        self._finish(ServiceReply(0, ended="TimeoutError"))
        self.close()

    def _finish(self, reply: ServiceReply) -> None:
        if not self._reply.done():
            self._reply.set_result(reply)


def _headers(head: bytes) -> dict[bytes, bytes]:
    """Parse header fields, by their names in small letters."""
    fields = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return {name.lower(): value.strip() for name, _, value in fields}
