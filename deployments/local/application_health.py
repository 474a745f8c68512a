"""The health of one application, as a client sees it: whether it answers, and for how long it has been silent."""

from collections.abc import Callable
from typing import Final

import httpx

from deployments.local.endpoint import Endpoint
from deployments.local.silence import Silence

SERVICE_TIMEOUT_S: Final = 3.0

SERVICE_SILENCE_S: Final = 15.0
"""Silence of an application that is reported; Serve needs less than half of it to replace HAProxy or a replica."""


class ServicePort:
    """Asks an application as a client does."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._url, self.refused = f"{endpoint.url}/info", False
        self._client = httpx.Client(timeout=SERVICE_TIMEOUT_S, trust_env=False, headers={"Connection": "close"})

    def info(self) -> httpx.Response | None:
        """Return the answer of GET /info; None if Serve answers 404 or 503 in its place, or nothing answers.

        An application that asks for a key (401) is ready too: Serve itself never asks for one.
        """
        try:
            response = self._client.get(self._url)
        except httpx.TransportError as error:
            self.refused = isinstance(error, httpx.ConnectError)
            return None
        self.refused = False
        ready = (httpx.codes.OK, httpx.codes.UNAUTHORIZED, httpx.codes.TOO_MANY_REQUESTS)
        return response if response.status_code in ready else None


class ApplicationHealth:
    """Checks one application again and again; reports a long silence, and its end.

    Args:
        endpoint: address of the application.
        named: name of the application in messages, e.g. "the service".
        say: prints a message.

    Attributes:
        port: asks the application.
        silent_s: seconds without an answer.
    """

    def __init__(self, endpoint: Endpoint, named: str, say: Callable[[str], None]) -> None:
        self.application, self.port, self.silent_s = endpoint.application, ServicePort(endpoint), 0.0
        self._named, self._say = named, say
        self._silence, self._said_silent = Silence(), False
        self._silence.note(True)

    def check(self, status: Callable[[], str]) -> None:
        """Ask the application once.

        Args:
            status: returns the status that Serve gives to the application, or the reason why Serve cannot be asked.
        """
        self.silent_s = self._silence.note(self.port.info() is not None)
        if self.silent_s == 0.0 and self._said_silent:
            self._said_silent = False
            self._say(f"{self._named} answers again")
        if self.silent_s > SERVICE_SILENCE_S and not self._said_silent:
            self._said_silent = True
            self._say(f"{self._named} has not answered for {self.silent_s:.0f} s; Serve says: {status()}")
