"""Where images go over HTTP, and in what."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """A request's body."""

    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Target:
    """Where images go, and how they are wrapped there."""

    host: str
    port: int
    path: str
    wrap: Callable[[bytes], Form]

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{self.host}:{self.port}{self.path}"
