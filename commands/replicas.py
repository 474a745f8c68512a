"""Figures that the replicas of a service report about themselves."""

import time
from collections.abc import Mapping
from typing import Any, Final

import httpx

from deployments.http.api_keys import is_key

Stats = Mapping[str, Any]
"""Answer of `GET /stats`."""

_HOW_TO_WRITE_URL: Final = "write http://, the machine and the port, e.g. http://127.0.0.1:8000"

FORGOTTEN_AFTER_S: Final = 5.0
"""Seconds without an answer after which a replica is no longer shown."""

_ASKED_EXTRA: Final = 2
"""Requests beyond one for each known replica, so that a new one is found soon."""

_ASKED_AT_FIRST: Final = 8
"""Requests without a new replica after which the first reading ends: chance may choose one replica several times."""


class NotAnAddress(Exception):
    """Raised if the address or key is malformed; the message says why and does not repeat the key."""


class NoAnswer(Exception):
    """Raised if the service gives no figures; the message says why and what to do."""


class Replicas:
    """Asks a service several times for the figures of all replicas, as the balancer chooses the replica that answers.

    Args:
        url: address of the service, without a path.
        seconds: part of the last minute that the figures cover, 1 to 60.
        key: API key of the service, if it has keys.

    Raises:
        NotAnAddress: `url` or `key` is malformed.
    """

    def __init__(self, url: str, seconds: int, key: str | None) -> None:
        _check(url, key)
        # Connections are not kept: with a new one, each request may reach another replica.
        headers = {"Connection": "close"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._url = f"{url.rstrip('/')}/stats?seconds={seconds}"
        self._client = httpx.Client(headers=headers, timeout=5.0, trust_env=False)
        self._seen: dict[str, tuple[float, Stats]] = {}

    def read(self) -> list[Stats]:
        """Read the figures of all replicas that have answered recently, by their names.

        Raises:
            NoAnswer: no replica answers.
        """
        more = len(self._seen) + _ASKED_EXTRA if self._seen else _ASKED_AT_FIRST
        left = more
        while left:
            stats = self._ask()
            left = left - 1 if stats["replica"] in self._seen else more
            self._seen[stats["replica"]] = time.monotonic(), stats
        oldest = time.monotonic() - FORGOTTEN_AFTER_S
        self._seen = {name: known for name, known in self._seen.items() if known[0] > oldest}
        return [stats for _, (_, stats) in sorted(self._seen.items())]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self) -> Stats:
        try:
            response = self._client.get(self._url)
            stats = response.json() if response.is_success else None
        except httpx.HTTPError as error:
            raise NoAnswer(f"no service answers at {self._url}: {error or type(error).__name__}") from error
        except ValueError:
            stats = None
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise NoAnswer(
                f"the service at {self._url} answers: missing or unknown API key; give --key, or DARKROOM_API_KEY"
            )
        if not isinstance(stats, dict) or "verdict" not in stats:
            raise NoAnswer(
                f"{self._url} answers with status {response.status_code} and without Darkroom's figures"
                f"{self._elsewhere()}"
            )
        return stats

    def _elsewhere(self) -> str:
        """Name the addresses of the applications of the service, as Serve lists them."""
        origin = httpx.URL(self._url).copy_with(path="/-/routes", query=None)
        try:
            prefixes = sorted(self._client.get(origin).json())
        except (httpx.HTTPError, ValueError, TypeError):
            return ""
        urls = [str(origin.copy_with(path=prefix)) for prefix in prefixes if str(prefix).startswith("/")]
        return f"; there are applications at {', '.join(urls)}" if urls else ""


def _check(text: str, key: str | None) -> None:
    if key is not None and not is_key(key):
        raise NotAnAddress(
            "malformed key (--key, or DARKROOM_API_KEY): a key consists of A-Z, a-z, 0-9 and - . _ ~ + / ="
        )
    try:
        url = httpx.URL(text)
        host = url.raw_host  # IDNA refuses labels that are empty or too long
        is_port = url.port is None or 0 < url.port < 65536
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise NotAnAddress(f"{_shown(text)} is not an address; {_HOW_TO_WRITE_URL}") from None
    if url.userinfo:
        raise NotAnAddress(f"an address must have no user and no password; {_HOW_TO_WRITE_URL}, and a key behind --key")
    if url.scheme not in ("http", "https") or not host or not is_port or url.query or url.fragment:
        raise NotAnAddress(f"{_shown(text)} is not the address of a service; {_HOW_TO_WRITE_URL}")
    if any(not label or len(label) > 63 for label in host.removesuffix(b".").split(b".")):
        raise NotAnAddress(f"{_shown(text)} has no valid host name; {_HOW_TO_WRITE_URL}")


def _shown(text: str) -> str:
    """Format an address for a message, without a password."""
    return repr(text[:100]) if "@" not in text else "what was typed"
