"""The sandbox of a worker: the rights that its process gives up before it reads an untrusted file.

Decoders are native code, and a vulnerability in one lets an image take its worker over. In the sandbox such an image
only has the memory that the worker shares with the replica, and the records that it sends (`pipeline.decode.messages`):
no files, no network, no other process, and no new privileges.

Landlock (https://docs.kernel.org/userspace-api/landlock.html), which needs no privileges, denies files; a filter of
system calls denies most of the rest. The Python packages for Landlock are either a development release, or a few months
old and have few users; it takes three system calls, made here. If a kernel lacks a feature, the sandbox does without,
and the service reports it.
"""

import ctypes
import enum
import os
import struct
from collections.abc import Iterable
from multiprocessing import forkserver
from typing import Final

from pipeline.decode.system_calls import refuse_system_calls

WRITABLE_VARIABLE: Final = "DARKROOM_WORKERS_WRITE"
"""Environment variable with a folder that workers may write to nevertheless: for tools that measure workers."""


class Closed(enum.IntFlag):
    """Kinds of access to the machine that the sandbox denies a worker."""

    PRIVILEGES = 1
    FILES = 2
    TCP = 4
    NETWORK = 8
    PROCESSES = 16

    def __str__(self) -> str:
        """Describe the denied access in words, as in `GET /info`."""
        parts = self & ~Closed.TCP if Closed.NETWORK in self else self
        return ", ".join(f"no {_CLOSED_IN_WORDS[part]}" for part in Closed if part in parts) or "nothing"


_CLOSED_IN_WORDS: Final = {
    Closed.PRIVILEGES: "new privileges",
    Closed.FILES: "files",
    Closed.TCP: "TCP",
    Closed.NETWORK: "network",
    Closed.PROCESSES: "other processes",
}

ALL_CLOSED: Final = Closed(sum(Closed))

_SET_NO_NEW_PRIVS: Final = 38  # of prctl
_CAPABILITIES_V3: Final = 0x20080522
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION: Final = 1
_PATH_BENEATH: Final = 1

_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 5: 16}
"""Number of file rights that Landlock can deny, by the version that introduced the last of them."""

_ALL_TCP: Final = 3  # bind and connect, from version 4 on
_ALL_SCOPES: Final = 3  # abstract unix sockets and signals, from version 6 on


def close_inherited() -> None:
    """Close all descriptors of a worker except the console and those that the replica has passed on to it.

    The others that it inherits lead to the forkserver and the resource tracker, which act on what they receive.
    """
    kept = _identities((0, 1, 2, *(forkserver.get_inherited_fds() or ())))
    for fd in map(int, os.listdir("/proc/self/fd")):
        if not _identities((fd,)) <= kept:
            os.close(fd)


def _identities(descriptors: Iterable[int]) -> set[tuple[int, int]]:
    """Return device and inode of descriptors: `mmap` holds a duplicate of the descriptor that it was given."""
    found = set()
    for fd in descriptors:
        try:
            status = os.fstat(fd)
        except OSError:  # already closed
            continue
        found.add((status.st_dev, status.st_ino))
    return found


def enter_sandbox() -> Closed:
    """Give up all access that a decoder does not need. Cannot be undone; all modules must be imported before.

    Returns:
        The access that is denied on this kernel.
    """
    alone = len(os.listdir("/proc/self/task")) == 1  # Landlock restricts only the calling thread
    libc = ctypes.CDLL(None, use_errno=True)
    closed = Closed(0)
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 and _drop_capabilities(libc):
        closed |= Closed.PRIVILEGES
    version = landlock_version() if alone else 0
    if version and _restrict(libc, version):
        closed |= Closed.FILES | (Closed.TCP if version >= 4 else Closed(0))
    if refuse_system_calls(files=Closed.FILES not in closed):
        closed |= Closed.FILES | Closed.TCP | Closed.NETWORK | Closed.PROCESSES
    return closed


def landlock_version() -> int:
    """Return the version of Landlock in this kernel; 0 if there is none or this process may not use it."""
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)))


def _drop_capabilities(libc: ctypes.CDLL) -> bool:
    """Drop root's capabilities, which the service has in containers where it runs as root."""
    header, none = struct.pack("=Ii", _CAPABILITIES_V3, 0), bytes(24)
    return bool(libc.capset(header, none) == 0)


def _restrict(libc: ctypes.CDLL, version: int) -> bool:
    """Deny all access that this version of Landlock can deny; return whether that worked."""
    rights = (1 << _FILE_RIGHTS[max(known for known in _FILE_RIGHTS if known <= version)]) - 1
    handled = struct.pack("=QQQ", rights, _ALL_TCP, _ALL_SCOPES)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = libc.syscall(_CREATE_RULESET, handled, len(handled), 0)
    if ruleset < 0:
        return False
    if folder := os.environ.get(WRITABLE_VARIABLE):
        _allow(libc, ruleset, folder, rights)
    restricted = bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    os.close(ruleset)
    return restricted


def _allow(libc: ctypes.CDLL, ruleset: int, folder: str, rights: int) -> None:
    beneath = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, beneath), 0)
    os.close(beneath)
