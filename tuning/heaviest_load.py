"""Search for the heaviest load that a service answers within its bound, in few measurements."""

from collections.abc import Sequence
from typing import Generic, TypeVar

Load = TypeVar("Load", int, float)


class HeaviestLoad(Generic[Load]):
    """Search over loads in ascending order.

    The search goes up from a load within the bound and down from one beyond it, two steps at a time, then tries the
    loads between them.

    Args:
        loads: the loads, the lightest first.
        start: first load to try.
        tries: most loads to try; more only until one is within the bound, or the lightest is beyond it.
    """

    def __init__(self, loads: Sequence[Load], start: Load, tries: int) -> None:
        self._loads: Sequence[Load] = loads
        self._tries, self._within, self._beyond = tries, -1, len(loads)
        self._at = max((at for at, load in enumerate(loads) if load <= start), default=0)

    def next(self) -> Load | None:
        """Return the next load to try; None if enough is known."""
        if self._within + 1 >= self._beyond or (self._tries <= 0 and self._within >= 0):
            return None
        return self._loads[self._at]

    def note(self, *, within: bool) -> None:
        """Record whether the load from `next` was answered within the bound."""
        self._tries -= 1
        if within:
            self._within = self._at
        else:
            self._beyond = self._at
        if self._within < 0:
            self._at = max(0, self._at - 2)
        elif self._beyond == len(self._loads):
            self._at = min(self._at + 2, len(self._loads) - 1)
        else:
            self._at = (self._within + self._beyond) // 2

    @property
    def heaviest(self) -> Load | None:
        """The heaviest load within the bound; None if there is none."""
        return self._loads[self._within] if self._within >= 0 else None

    @property
    def too_much(self) -> Load | None:
        """The lightest load beyond the bound; None if there is none."""
        return self._loads[self._beyond] if self._beyond < len(self._loads) else None
