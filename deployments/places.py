"""Places of a replica: requests that Ray Serve lets in, at work and behind them waiting."""

import math
from dataclasses import dataclass
from typing import Final, Self

from ray import serve

from deployments.request_errors import Overloaded

_SCARCE_FROM: Final = 0.75
"""Share of the places."""


@dataclass(frozen=True, slots=True)
class Places:
    """Requests at work at a time, and those that wait before them; -1 of these is any number."""

    ongoing: int
    queued: int

    @classmethod
    def of_this_replica(cls) -> Self:
        """Places of the replica in this process, as they are set now."""
        config = serve.get_replica_context()._deployment_config  # Serve tells them nowhere else
        return cls(config.max_ongoing_requests, config.max_queued_requests)

    def check(self, taken: int) -> None:
        """Raises Overloaded where so many leave none: Serve would say so as well, but in plain text."""
        if self.queued >= 0 and taken >= self.ongoing + self.queued:
            raise Overloaded(
                f"{taken} requests are in the replica; the limit is {self.ongoing + self.queued} "
                "(max_ongoing_requests and max_queued_requests together)"
            )

    def lacking(self, taken: int) -> int:
        """Number of places that should be free beyond those that are, so that the next request finds one."""
        return max(0, taken + 1 - math.ceil(self.ongoing * _SCARCE_FROM)) if self.ongoing >= 0 else 0

    def rounds(self, taken: int) -> float:
        """By how much longer a request waits than the engine foresees, which knows only of those at work."""
        return max(1.0, taken / self.ongoing)
