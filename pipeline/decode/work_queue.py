"""The images that wait for a worker: ordinary ones, and in a queue of their own those that take long."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.config import COSTLY_S
from pipeline.decode.fair_queue import Turns
from pipeline.pace import DecodePace
from pipeline.task import Task


@dataclass(frozen=True, slots=True)
class Ahead:
    """Work that would come before the last of some new images of one request."""

    images: int
    ordinary_s: float | None  # before the ordinary ones among them, at the pace of now; None where there are none
    costly_s: float | None  # before the costly ones, likewise


class Waiting:
    """Both queues. A flood of costly images fills its own; whoever sends ordinary ones sees nothing of it.

    Attributes:
        ordinary: those whose price is below `COSTLY_S`. The pace does not count: while costly images take the cores,
            all take longer, and no photograph should have to wait among the costly for that.
        costly: the others.
        pace: by which prices become seconds on this machine.
    """

    def __init__(self) -> None:
        self.ordinary, self.costly = Turns(), Turns()
        self.pace = DecodePace()

    def __iter__(self) -> Iterator[Task]:
        """All that wait, in no order that means anything."""
        yield from self.ordinary
        yield from self.costly

    def add(self, tasks: Iterable[Task]) -> None:
        """Appends images, each behind the others of its request."""
        ordinary, costly = list[Task](), list[Task]()
        for task in tasks:
            task.costly = task.price_s >= COSTLY_S
            (costly if task.costly else ordinary).append(task)
        self.ordinary.add(ordinary)
        self.costly.add(costly)

    def add_again(self, tasks: Sequence[Task]) -> None:
        """Puts images back, before all others and in this order."""
        self.ordinary.add_again([task for task in tasks if not task.costly])
        self.costly.add_again([task for task in tasks if task.costly])

    def ahead_of(self, prices_s: Sequence[float]) -> Ahead:
        """Work that waits and would come before the last of new images of one request, at these prices."""
        costly = [price_s for price_s in prices_s if price_s >= COSTLY_S]
        images, seconds = 0, list[float | None]()
        for turns, count, price_s in (
            (self.ordinary, len(prices_s) - len(costly), sum(prices_s) - sum(costly)),
            (self.costly, len(costly), sum(costly)),
        ):
            before, ahead_s = turns.ahead_of(price_s) if count else (0, None)
            images += before
            seconds.append(None if ahead_s is None else ahead_s * self.pace.ratio)
        return Ahead(images, *seconds)

    @property
    def wanted(self) -> int:
        """How many images wait that somebody waits for."""
        return self.ordinary.wanted + self.costly.wanted

    def clear(self) -> None:
        """Forgets all of them."""
        self.ordinary.clear()
        self.costly.clear()
