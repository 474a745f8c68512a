"""The address that images are sent to, and the bodies that carry them."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """A request's body."""

    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Target:
    """The address of a service, and the form of the bodies that it takes."""

    host: str
    port: int
    path: str
    wrap: Callable[[bytes], Form]

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{self.host}:{self.port}{self.path}"
