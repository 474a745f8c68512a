"""Who gets in: the keys that open the service, whether a request shows one, and from whose pages browsers may call.

Keys come from a file with one a line, which is read again whenever it has changed, or from the environment. Only their
digests are kept, and no message says more of a key than its length.
"""

import hashlib
import hmac
import logging
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from deployments.logs import log_misconfigured
from pipeline.errors import MissingKey, WrongKey

logger = logging.getLogger(__name__)

KEYS_VARIABLE: Final = "DARKROOM_API_KEYS"
MIN_KEY_CHARACTERS: Final = 16

_KEY: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # what RFC 6750 lets stand in the header (b64token)
_HOW_TO_SEND: Final = "send the header Authorization: Bearer <key> (curl -H 'Authorization: Bearer <key>' ...)"

Stamp = tuple[int, ...]


class Access:
    """Lets everybody in where no keys are configured, else those who show one of them.

    Args:
        keys_file: with a key a line; blank lines and lines that begin with # say nothing.
        listed: the value of DARKROOM_API_KEYS, keys with commas between; None where it is not set.

    Raises:
        ValueError: both are there, or what is there is not usable; without any key in the message.
    """

    def __init__(self, keys_file: str | None, listed: str | None) -> None:
        if keys_file is not None and listed is not None:
            raise ValueError(f"both api_keys_file and {KEYS_VARIABLE} are set; keep the one that holds the keys in use")
        self.open = keys_file is None and listed is None
        self._file = None if keys_file is None else Path(keys_file)
        self._stamp: Stamp | None = None
        self._failure: str | None = None
        self._digests: tuple[bytes, ...] = ()
        if self._file is not None:
            self._stamp = _stamp(self._file)
            self._digests = _digests_in(self._file)
        elif listed is not None:
            self._digests = _digests(enumerate(listed.split(","), start=1), f"{KEYS_VARIABLE}, key")

    def check(self, authorization: str | None) -> None:
        """Raises where a request with this Authorization header may not come in.

        Raises:
            MissingKey: it shows none.
            WrongKey: it shows one that is not among those in force.
        """
        if self.open:
            return
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise MissingKey(f"a key is needed: {_HOW_TO_SEND}")
        self._refresh()
        shown, known = _digest(key.strip()), False
        for digest in self._digests:  # all of them: how long it takes says nothing about which one comes near
            known |= hmac.compare_digest(digest, shown)
        if not known:
            raise WrongKey("the key in the Authorization header is not one of those in force")

    def _refresh(self) -> None:
        """Reads the file again where it has changed. One that cannot be used lets nobody in until it can."""
        if self._file is None or (self._failure is None and _stamp(self._file) == self._stamp):
            return
        self._stamp = _stamp(self._file)  # before reading: a change while it is read is a change
        try:
            self._digests, self._failure = _digests_in(self._file), None
        except ValueError as error:
            self._digests, known_failure = (), self._failure
            self._failure = str(error)
            if self._failure != known_failure:  # not a line a request
                log_misconfigured("every key is refused until this is mended", str(error))
            return
        logger.info("api_keys_file was read again; keys in force: %d", len(self._digests))


def cors(origins: Sequence[str]) -> list[Middleware]:
    """What lets the pages of these origins call the service from a browser; nothing where there are none.

    A browser asks beforehand (preflight) without the key, and is answered without one. Cookies never count.
    """
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type", "X-Request-ID"),
            expose_headers=("Server-Timing", "X-Request-ID", "Retry-After", "WWW-Authenticate"),
        )
    ]


def _stamp(file: Path) -> Stamp | None:
    """What differs after every change: by ctime, which a change of mode moves too and which nobody can set back."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns


def _digests_in(file: Path) -> tuple[bytes, ...]:
    try:
        text = file.read_text("utf-8-sig", errors="replace")
    except OSError as error:
        raise ValueError(f"api_keys_file: cannot read {file}: {error.strerror}") from None
    lines = ((number, line) for number, line in enumerate(text.splitlines(), start=1) if not _says_nothing(line))
    return _digests(lines, f"api_keys_file: {file}, line")


def _says_nothing(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _digests(keys: Iterable[tuple[int, str]], place: str) -> tuple[bytes, ...]:
    """Digests of numbered keys, each of which is checked; `place` and the number say where one stands."""
    digests = []
    for number, key in ((number, key.strip()) for number, key in keys):
        if len(key) < MIN_KEY_CHARACTERS:
            raise ValueError(
                f"{place} {number}: a key of {len(key)} characters is too easy to guess; write {MIN_KEY_CHARACTERS} "
                "or more, e.g. what `openssl rand -hex 32` prints"
            )
        if not _KEY.fullmatch(key):
            raise ValueError(
                f"{place} {number}: a key may hold A-Z, a-z, 0-9, and any of - . _ ~ + / alone, = at its end"
            )
        digests.append(_digest(key))
    if not digests:
        raise ValueError(f"{place.rpartition(',')[0]} holds no key; write at least one, or take the setting away")
    return tuple(digests)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
