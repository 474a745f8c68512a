"""Search for the heaviest load that a service bears, in few measurements."""

from collections.abc import Sequence
from typing import Generic, TypeVar

Load = TypeVar("Load", int, float)


class HeaviestLoad(Generic[Load]):
    """Search over loads in ascending order.

    The search goes up while the load is borne and down while it is not, two steps at a time, then tries those between.

    Args:
        loads: the loads, the lightest first.
        start: where to begin.
        tries: the most to be measured; more only until one is borne, or even the lightest is not.
    """

    def __init__(self, loads: Sequence[Load], start: Load, tries: int) -> None:
        self._loads: Sequence[Load] = loads
        self._tries, self._borne, self._not = tries, -1, len(loads)
        self._at = max((at for at, load in enumerate(loads) if load <= start), default=0)

    def next(self) -> Load | None:
        """Return the next load to try; None if enough is known."""
        if self._borne + 1 >= self._not or (self._tries <= 0 and self._borne >= 0):
            return None
        return self._loads[self._at]

    def note(self, *, borne: bool) -> None:
        """Record whether the load from `next` was borne."""
        self._tries -= 1
        if borne:
            self._borne = self._at
        else:
            self._not = self._at
        if self._borne < 0:
            self._at = max(0, self._at - 2)
        elif self._not == len(self._loads):
            self._at = min(self._at + 2, len(self._loads) - 1)
        else:
            self._at = (self._borne + self._not) // 2

    @property
    def heaviest(self) -> Load | None:
        """The heaviest load that was borne; None if none was."""
        return self._loads[self._borne] if self._borne >= 0 else None

    @property
    def too_much(self) -> Load | None:
        """The lightest load that was not borne; None if all were."""
        return self._loads[self._not] if self._not < len(self._loads) else None
