"""Refuses connections to other machines in this process, for a command that must do without the network."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, Final

_CONNECTS: Final = ("socket.connect", "socket.sendto", "socket.sendmsg")
_LOOKS_UP: Final = ("socket.getaddrinfo", "socket.gethostbyname")
_WITHOUT_PROXY: Final = {"no_proxy": "*", "NO_PROXY": "*"}

_refusing = False
_is_hooked = False


class NetworkRefused(OSError):
    """A connection to another machine was refused."""


@contextmanager
def without_network() -> Iterator[None]:
    """Refuse connections to other machines, and look-ups of their names, until the block ends.

    Sockets within the machine stay usable, but no proxy, which may be on this machine too. Python calls audit hooks
    before it opens a connection, whichever library asks for it; they cannot be removed
    (https://docs.python.org/3/library/sys.html#sys.addaudithook).
    """
    global _refusing, _is_hooked
    if not _is_hooked:
        sys.addaudithook(_refuse)
        _is_hooked = True
    _refusing = True
    before = {name: os.environ.get(name) for name in _WITHOUT_PROXY}
    os.environ.update(_WITHOUT_PROXY)
    try:
        yield
    finally:
        _refusing = False
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if not _refusing:
        return
    host = None
    if event in _CONNECTS and isinstance(arguments[1], tuple):  # the address of a Unix socket is a path
        host = arguments[1][0]
    elif event in _LOOKS_UP:
        host = arguments[0]
    if host and not _is_this_machine(str(host)):
        raise NetworkRefused(f"no connection to {host} is made here, as a check does not use the network")


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
