"""Half-closed connections: a client that still reads is answered; for one that has gone, the work is dropped.

TCP signals both in the same way (FIN). HAProxy treats both as gone (`option abortonclose`) or, without that option,
both as present. An interim answer, 100 Continue, tells them apart: every HTTP/1.1 client has to skip it. If no program
reads any more, the client's system replies with a reset; then HAProxy closes its connection to the replica, and Serve
cancels the request. The kernel lists the half-closed connections, so this works only on HAProxy's own machine.
"""

import asyncio
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.http.client_address import PeerConnection, connection_of
from deployments.http.haproxy import HALF_CLOSE_VARIABLE

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 0.25
"""Interval between checks, and the least age of a request that is checked."""

_SECOND_PROBE_AFTER_S: Final = 0.05
"""Delay of the second probe: the first one triggers the client's reset, the second one notices HAProxy's close."""

_INTERIM_ANSWER: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

# sock_diag(7): header of a netlink message, request for TCP sockets in CLOSE_WAIT, and head of each answer.
_MESSAGE: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBxI")
_SOCKET: Final = struct.Struct("!HH16s16s")
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST_AND_DUMP: Final = 0x301
_DONE: Final = 3
_CLOSE_WAIT: Final = 8
_HEAD_BYTES: Final = 4


def half_closed(port: int) -> set[PeerConnection]:
    """Return the connections to a port of this machine whose clients have closed their half.

    Raises:
        OSError: the kernel does not list sockets, as in some sandboxes.
    """
    found: set[PeerConnection] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(1.0)
        for family in (socket.AF_INET, socket.AF_INET6):
            identity = _SOCKET.pack(port, 0, b"", b"") + bytes(12)
            body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << _CLOSE_WAIT) + identity
            head = _MESSAGE.pack(_MESSAGE.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_AND_DUMP, 0, 0)
            kernel.send(head + body)
            while _take(kernel.recv(65_536), family, found):
                pass
    return found


def _take(answer: bytes, family: int, found: set[PeerConnection]) -> bool:
    """Add the sockets of an answer; return whether more answers follow."""
    at = 0
    while at < len(answer):
        size, kind, *_ = _MESSAGE.unpack_from(answer, at)
        if kind == _DONE:
            return False
        if kind != _SOCK_DIAG_BY_FAMILY:
            raise OSError("the kernel does not list TCP sockets")
        port, client_port, _, client = _SOCKET.unpack_from(answer, at + _MESSAGE.size + _HEAD_BYTES)
        raw = client[:4] if family == socket.AF_INET else client
        found.add(PeerConnection(_address(ipaddress.ip_address(raw)), client_port, port))
        at += size + -size % 4
    return True


def _address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return str(getattr(address, "ipv4_mapped", None) or address)


def can_look() -> bool:
    """Return whether the kernel lists connections for this process."""
    try:
        half_closed(1)
    except OSError:
        return False
    return True


@dataclass(eq=False, slots=True)
class _Request:
    connection: PeerConnection
    cycle: Any
    since_s: float


class HalfClosed:
    """ASGI middleware that finds out whether clients with a half-closed connection still read.

    Args:
        app: the next application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._requests = set[_Request]()
        self._looking: asyncio.Task[None] | None = None
        self._is_asked_for = os.environ.get(HALF_CLOSE_VARIABLE) == "1"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        connection = connection_of(scope) if self._is_asked_for and scope["type"] == "http" else None
        cycle = getattr(receive, "__self__", None)
        if connection is None or not hasattr(cycle, "transport"):
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        request = _Request(connection, cycle, loop.time())
        self._requests.add(request)
        if self._looking is None:
            self._looking = loop.create_task(self._look())
        try:
            await self._app(scope, receive, send)
        finally:
            self._requests.discard(request)

    async def _look(self) -> None:
        try:
            while self._requests:
                await asyncio.sleep(LOOK_EVERY_S)
                await self._ask()
        finally:
            self._looking = None  # the next request starts another

    async def _ask(self) -> None:
        old_s = asyncio.get_running_loop().time() - LOOK_EVERY_S
        waiting = [request for request in self._requests if request.since_s <= old_s]
        try:
            closed = _closed(waiting)
        except OSError as error:  # on a busy machine the kernel's answer may be late
            logger.debug("half-closed connections cannot be listed: %s", error)
            return
        if closed:
            _probe(closed)
            await asyncio.sleep(_SECOND_PROBE_AFTER_S)
            _probe(request for request in closed if request in self._requests)


def _closed(requests: Iterable[_Request]) -> list[_Request]:
    waiting = list(requests)
    found = set[PeerConnection]()
    for port in {request.connection.port for request in waiting}:
        found |= half_closed(port)
    return [request for request in waiting if request.connection in found]


def _probe(requests: Iterable[_Request]) -> None:
    for request in requests:
        cycle = request.cycle
        if not cycle.response_started and not cycle.disconnected:
            cycle.transport.write(_INTERIM_ANSWER)
