"""Reads API keys from a file or a variable as digests, and checks that other users cannot change the file.

A message names at most the length of a key.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MIN_KEY_CHARACTERS: Final = 16

MAX_FILE_BYTES: Final = 16 << 20
"""Limit on the size of a key file: about 250,000 keys of 64 characters, which are read in half a second."""

_KEY: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # b64token of RFC 6750, the form of a key in the header

_KINDS: Final = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

Stamp = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Keys:
    """Digests of the keys in force, and warnings for the operator about their file, one sentence each."""

    digests: frozenset[bytes]
    warnings: tuple[str, ...] = ()


def keys_listed(listed: str, variable: str) -> Keys:
    """Parse the keys in the value of an environment variable, separated by commas.

    Raises:
        ValueError: there is no key, or one is malformed.
    """
    return Keys(_digests(enumerate(listed.split(","), start=1), f"{variable}, key"))


def keys_in(file: Path) -> Keys:
    """Read the keys of a file, one a line; blank lines and lines that begin with # are ignored.

    A file that any user may change is refused, as ssh does: a user could add a key of his own. A file that any user may
    read only causes a warning, as Kubernetes mounts secrets this way (0644) by default. So does a file that a group may
    read, unless root owns it: that is how root shares a file with the user of a service (PostgreSQL has the same rule).

    Raises:
        ValueError: the file is no regular file, is too large, cannot be read, or holds a malformed key.
    """
    data, mode, owner = _content(file)
    if mode & stat.S_IWOTH:
        raise ValueError(
            f"api_keys_file: every user of the machine may write to {file} (mode {mode:04o}), and so add a key; type "
            f"chmod 600 {file}"
        )
    numbered = enumerate(data.decode("utf-8-sig", "replace").splitlines(), start=1)
    lines = ((number, line) for number, line in numbered if not _says_nothing(line))
    return Keys(_digests(lines, f"api_keys_file: {file}, line"), _warnings(file, mode, owner))


def stamp_of(file: Path) -> Stamp | None:
    """Make a stamp of a file that differs after every change; ctime covers changes of the mode too."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns


def digest_of(key: str) -> bytes:
    """Compute the SHA-256 digest of a key; only the digest is kept."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def is_key(text: str) -> bool:
    """Return whether a text has the form of a key."""
    return _KEY.fullmatch(text) is not None


def _content(file: Path) -> tuple[bytes, int, int]:
    """Read the bytes of a file, its mode and its owner; do not wait for the writer of a pipe."""
    try:
        _check_kind(file, os.stat(file).st_mode)  # before opening, which alone has an effect on some devices
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(descriptor, "rb") as opened:
            status = os.fstat(descriptor)
            _check_kind(file, status.st_mode)
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"api_keys_file: cannot read {file}: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"api_keys_file: {file} is larger than {MAX_FILE_BYTES} bytes, the limit; write fewer keys")
    return data, stat.S_IMODE(status.st_mode), status.st_uid


def _check_kind(file: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise ValueError(f"api_keys_file: {file} is {kind}; write the keys into a regular file")


def _warnings(file: Path, mode: int, owner: int) -> tuple[str, ...]:
    if mode & stat.S_IROTH:
        readers = "every user of the machine"
    elif mode & stat.S_IRGRP and owner != 0:
        readers = "every user of its group"
    else:
        return ()
    return (
        f"api_keys_file: {readers} may read {file} (mode {mode:04o}); type chmod 600 {file}, or write "
        "defaultMode: 0400 where Kubernetes mounts it",
    )


def _says_nothing(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _digests(keys: Iterable[tuple[int, str]], place: str) -> frozenset[bytes]:
    """Check numbered keys and compute their digests; `place` and the number locate a bad key in a message."""
    digests = set()
    for number, key in ((number, key.strip()) for number, key in keys):
        if len(key) < MIN_KEY_CHARACTERS:
            raise ValueError(
                f"{place} {number}: a key of {len(key)} characters is too easy to guess; write {MIN_KEY_CHARACTERS} "
                "or more, e.g. what `openssl rand -hex 32` prints"
            )
        if not is_key(key):
            raise ValueError(
                f"{place} {number}: a key may hold A-Z, a-z, 0-9, and any of - . _ ~ + / alone, = at its end"
            )
        digests.add(digest_of(key))
    if not digests:
        raise ValueError(f"{place.rpartition(',')[0]} holds no key; write at least one, or remove the setting")
    return frozenset(digests)
