"""Authentication by API key, and CORS: origins whose pages may call the service from a browser.

Keys come from the environment or from a file with one key a line, which is read again after each change. Only digests
of keys are kept, and a message names at most the length of a key.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.http.api_keys import Keys, Stamp, digest_of, keys_in, keys_listed, stamp_of
from deployments.logs import log_misconfigured, log_warnings
from deployments.request_errors import MissingKey, WrongKey

logger = logging.getLogger(__name__)

KEYS_VARIABLE: Final = "DARKROOM_API_KEYS"
READ_AGAIN_AFTER_S: Final = 1.0
"""Interval at which an unusable key file is read again although its stamp has not changed."""

_HOW_TO_SEND: Final = "send the header Authorization: Bearer <key> (curl -H 'Authorization: Bearer <key>' ...)"


class Access:
    """Admits requests with a configured API key, or every request if no keys are configured. For one event loop.

    Args:
        keys_file: path of a file with one key a line; blank lines and lines that begin with # are ignored.
        listed: the value of DARKROOM_API_KEYS, keys separated by commas; None if the variable is not set.

    Raises:
        ValueError: both are given, or the given one is unusable; the message holds no key.
    """

    def __init__(self, keys_file: str | None, listed: str | None) -> None:
        if keys_file is not None and listed is not None:
            raise ValueError(f"both api_keys_file and {KEYS_VARIABLE} are set; keep the one that holds the keys in use")
        self.open = keys_file is None and listed is None
        self._file = None if keys_file is None else Path(keys_file)
        self._stamp: Stamp | None = None
        self._failure: str | None = None
        self._failed_at_s = 0.0
        self._reading = asyncio.Lock()
        self._keys = Keys(frozenset())
        if self._file is not None:
            self._stamp = stamp_of(self._file)
            self._keys = keys_in(self._file)
        elif listed is not None:
            self._keys = keys_listed(listed, KEYS_VARIABLE)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the operator about the key file, one sentence each."""
        return self._keys.warnings

    async def check(self, authorization: str | None) -> None:
        """Check the Authorization header of a request.

        The digest of the key is looked up in a set, which takes the same time for any number of keys. The set compares
        bytes only if a 64-bit hash agrees. That hash has a new secret in each process, and an attacker cannot choose
        the SHA-256 of a key: the time of a look-up reveals nothing about the keys in force.

        Raises:
            MissingKey: the header holds no key.
            WrongKey: the key is not in force.
        """
        if self.open:
            return
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise MissingKey(f"missing API key: {_HOW_TO_SEND}")
        await self._refresh()
        if digest_of(key.strip()) not in self._keys.digests:
            raise WrongKey("unknown API key: the key in the Authorization header is not in force")

    async def _refresh(self) -> None:
        """Read the key file again if it has changed. While the file is unusable, every key is refused.

        Requests with a key wait meanwhile, so a key that was removed is never accepted afterwards.
        """
        if self._file is None or self._is_known(stamp_of(self._file)):
            return
        async with self._reading:
            stamp = stamp_of(self._file)  # before reading: a change during the read is noticed next time
            if not self._is_known(stamp):
                try:
                    self._take(await asyncio.to_thread(keys_in, self._file))
                except ValueError as error:
                    self._fail(str(error))
                self._stamp = stamp  # not before: this request may be cancelled while it waits

    def _is_known(self, stamp: Stamp | None) -> bool:
        """Return whether this version of the key file is known; an unusable file is tried again after `RETRY_S`."""
        if stamp != self._stamp:
            return False
        return self._failure is None or time.monotonic() - self._failed_at_s < READ_AGAIN_AFTER_S

    def _take(self, keys: Keys) -> None:
        if keys.warnings != self._keys.warnings:
            log_warnings(keys.warnings)
        self._keys, self._failure = keys, None
        logger.info("api_keys_file was read again; keys in force: %d", len(keys.digests))

    def _fail(self, why: str) -> None:
        if why != self._failure:  # one log line, not one for each request
            log_misconfigured("every key is refused until this is fixed", why)
        self._keys, self._failure, self._failed_at_s = Keys(frozenset()), why, time.monotonic()


class RequireKey:
    """ASGI middleware around every route that needs an API key; the only place that checks keys.

    Args:
        app: receives the requests with a valid key.
        access: checks keys.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request with a valid key to the application.

        Raises:
            MissingKey, WrongKey: the key is missing or unknown.
        """
        if not self._access.open:
            await self._access.check(Headers(scope=scope).get("authorization"))
        await self._app(scope, receive, send)


def cors(origins: Sequence[str]) -> list[Middleware]:
    """Make CORS middleware for these origins; an empty list without origins.

    A browser sends its preflight request without the key, and is answered without one. Cookies are never used.
    """
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "POST", "PUT"),
            allow_headers=("Authorization", "Content-Encoding", "Content-Type", "X-Request-ID", "X-Request-Timeout-Ms"),
            expose_headers=("Accept-Encoding", "Server-Timing", "X-Request-ID", "Retry-After", "WWW-Authenticate"),
        )
    ]
