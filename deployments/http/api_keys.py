"""Keys in a file, or in a variable, as their digests; and whether others of the machine may read or change the file.

No message says more of a key than its length.
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
"""The largest file of keys: about 250,000 of 64 characters, which are read in half a second."""

_KEY: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # what RFC 6750 lets stand in the header (b64token)

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
    """Digests of the keys in force, and what an operator should know of where they came from, a sentence each."""

    digests: frozenset[bytes]
    warnings: tuple[str, ...] = ()


def keys_listed(listed: str, variable: str) -> Keys:
    """The keys in the value of a variable, with commas between.

    Raises:
        ValueError: there is none, or one is not usable.
    """
    return Keys(_digests(enumerate(listed.split(","), start=1), f"{variable}, key"))


def keys_in(file: Path) -> Keys:
    """The keys of a file with one a line; blank lines and lines that begin with # say nothing.

    A file that any user may change is refused, as ssh refuses one: he could add a key of his own. One that any user may
    read is only warned of, as Kubernetes mounts secrets so (0644) unless told otherwise. So is one that a group may
    read, unless it is root's, as PostgreSQL has it: that is how root shares it with the user of a service.

    Raises:
        ValueError: it is no regular file, is too large, cannot be read, or holds what is no key.
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
    """Stamp of a file that differs after every change: by ctime, which a change of mode moves too."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns


def digest_of(key: str) -> bytes:
    """SHA-256 digest of a key, which is all that is kept of it."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def is_key(text: str) -> bool:
    """Whether a header can show this as a key."""
    return _KEY.fullmatch(text) is not None


def _content(file: Path) -> tuple[bytes, int, int]:
    """The bytes of a file, its mode and its owner; without waiting for whoever should write to a pipe."""
    try:
        _check_kind(file, os.stat(file).st_mode)  # before it is opened: that alone moves some devices
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
    """Digests of numbered keys, each of which is checked; `place` and the number say where one stands."""
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
        raise ValueError(f"{place.rpartition(',')[0]} holds no key; write at least one, or take the setting away")
    return frozenset(digests)
