"""Requests sent by hand on a connection that stays open."""

import socket
from contextlib import ExitStack
from typing import Any

PIECE = b"x" * 65_536


def head(path: str, size: int, *more: str) -> bytes:
    """Return the head of a request that announces a body."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {size}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def answered(stack: ExitStack, port: int, request: bytes) -> tuple[socket.socket, Any]:
    """Open a connection, send a request, and return the connection and a reader of it."""
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=15))
    connection.sendall(request)
    return connection, stack.enter_context(connection.makefile("rb"))
