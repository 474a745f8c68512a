"""How many requests Ray Serve lets into a replica: at work, and behind them waiting."""

from dataclasses import dataclass
from typing import Final, Self

from ray import serve

from pipeline.errors import Overloaded

_SCARCE_FROM: Final = 0.75
"""Share of the places."""


@dataclass(frozen=True, slots=True)
class Places:
    """Requests at work at a time, and those that wait before them; -1 of these is any number."""

    ongoing: int
    queued: int

    @classmethod
    def of_this_replica(cls) -> Self:
        """Those of the replica in this process, as they are set now."""
        config = serve.get_replica_context()._deployment_config  # Serve tells them nowhere else
        return cls(config.max_ongoing_requests, config.max_queued_requests)

    def check(self, taken: int) -> None:
        """Raises Overloaded where so many leave none: Serve would say so as well, but in plain text."""
        if self.queued >= 0 and taken >= self.ongoing + self.queued:
            raise Overloaded(
                f"{taken} requests are in the replica; the limit is {self.ongoing + self.queued} "
                "(max_ongoing_requests and max_queued_requests together)"
            )

    def are_scarce(self, taken: int) -> bool:
        """Whether next to no request more is let in without waiting for a place."""
        return 0 <= self.ongoing * _SCARCE_FROM <= taken

    def rounds(self, taken: int) -> float:
        """By how much longer a request waits than the engine foresees, which knows only of those at work."""
        return max(1.0, taken / self.ongoing)
