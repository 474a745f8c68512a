"""The images that wait for a worker, in an order that is fair between requests in seconds of work.

Those that take long wait in a queue of their own: a flood of them fills that, and whoever sends ordinary images sees
nothing of it.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.config import COSTLY_PRICE_S, MAX_CHUNK_PRICE_S
from pipeline.pace import DecodePace
from pipeline.task import Task

_ROUNDING_S: Final = 1e-9
"""By how much sums of the same prices may differ."""


class _Share:
    """The images of one request; its place in the heap is where the first of them ends on the clock of `FairQueue`."""

    __slots__ = ("ends_at_s", "number", "price_s", "tasks")

    def __init__(self, tasks: list[Task], now_s: float, number: int) -> None:
        self.tasks, self.number = deque(tasks), number
        self.price_s = sum(task.price_s for task in tasks)
        self.ends_at_s = now_s + tasks[0].price_s

    def __lt__(self, other: "_Share") -> bool:
        return (self.ends_at_s, self.number) < (other.ends_at_s, other.number)

    def pop(self) -> Task:
        task = self.tasks.popleft()
        self.price_s -= task.price_s
        if self.tasks:
            self.ends_at_s += self.tasks[0].price_s
        return task


class FairQueue:
    """A queue that is fair between requests: none has had more seconds of work than another that waits as long.

    The clock is that of self-clocked fair queueing: an image ends one price after the one before it of its request, or
    after the image that was given last where its request is new; the one that ends first goes first. So requests whose
    images cost the same take turns image by image, and a cheap image waits for no dear one that came with it.
    (Golestani, A self-clocked fair queueing scheme for broadband applications, 1994.)

    What was begun and is to be tried again goes before everything.
    """

    def __init__(self) -> None:
        self._again: deque[Task] = deque()
        self._requests: list[_Share] = []  # a heap; none of them empty
        self._numbers = itertools.count()
        self._now_s = 0.0
        self._count = 0

    def __len__(self) -> int:
        """How many images wait."""
        return self._count

    def __iter__(self) -> Iterator[Task]:
        """All that wait, in no order that means anything."""
        yield from self._again
        for request in self._requests:
            yield from request.tasks

    def add(self, tasks: Iterable[Task]) -> None:
        """Appends images, each behind the others of its request."""
        for _, group in itertools.groupby(tasks, key=lambda task: task.request):
            request = _Share(list(group), self._now_s, next(self._numbers))
            self._count += len(request.tasks)
            heapq.heappush(self._requests, request)

    def add_again(self, tasks: list[Task]) -> None:
        """Puts images back, before all others and in this order."""
        self._again.extendleft(reversed(tasks))
        self._count += len(tasks)

    @property
    def next(self) -> Task:
        """The image that `pop` would give; IndexError where none waits."""
        return self._again[0] if self._again else self._requests[0].tasks[0]

    def pop(self) -> Task:
        """Takes the next image; IndexError where none waits."""
        if self._again:
            task = self._again.popleft()
        else:
            request = self._requests[0]
            self._now_s = request.ends_at_s
            task = request.pop()
            if request.tasks:
                heapq.heapreplace(self._requests, request)
            else:
                heapq.heappop(self._requests)
        self._count -= 1
        return task

    def ahead_of(self, price_s: float) -> tuple[int, float]:
        """Images, and their price, that come before the last of new images of one request of that price together.

        What nobody waits for any more costs nothing when its turn comes.
        """
        last_s = self._now_s + price_s
        images, ahead_s = len(self._again), sum(task.price_s for task in self._again)
        for request in self._requests:
            if request.ends_at_s <= last_s + _ROUNDING_S and not request.tasks[0].request.future.abandoned:
                mean_s = request.price_s / len(request.tasks)
                count = min(len(request.tasks), 1 + int((last_s + _ROUNDING_S - request.ends_at_s) / mean_s))
                images += count
                ahead_s += count * mean_s
        return images, ahead_s

    @property
    def wanted(self) -> int:
        """How many images wait that somebody waits for."""
        return len(self._again) + sum(
            len(request.tasks) for request in self._requests if not request.tasks[0].request.future.abandoned
        )

    def clear(self) -> None:
        """Forgets all of them."""
        self._again.clear()
        self._requests.clear()
        self._count = 0


@dataclass(frozen=True, slots=True)
class Ahead:
    """Work that would come before the last of some new images of one request."""

    images: int
    ordinary_s: float | None  # before the ordinary ones among them, at the pace of now; None where there are none
    costly_s: float | None  # before the costly ones, likewise


class Backlog:
    """The queue of ordinary images and that of costly ones.

    Attributes:
        ordinary: those whose price is below `COSTLY_PRICE_S`. The pace does not count: while costly images take the
            cores, all take longer, and no photograph should have to wait among the costly for that.
        costly: the others.
        pace: by which prices become seconds on this machine.
        dropped: images that nobody waited for any more when their turn came.
    """

    def __init__(self) -> None:
        self.ordinary, self.costly = FairQueue(), FairQueue()
        self.pace = DecodePace()
        self.dropped = 0

    def __iter__(self) -> Iterator[Task]:
        """All that wait, in no order that means anything."""
        yield from self.ordinary
        yield from self.costly

    def add(self, tasks: Iterable[Task]) -> None:
        """Appends images, each behind the others of its request."""
        ordinary, costly = list[Task](), list[Task]()
        for task in tasks:
            task.costly = task.price_s >= COSTLY_PRICE_S
            (costly if task.costly else ordinary).append(task)
        self.ordinary.add(ordinary)
        self.costly.add(costly)

    def add_again(self, tasks: Sequence[Task]) -> None:
        """Puts images back, before all others and in this order."""
        self.ordinary.add_again([task for task in tasks if not task.costly])
        self.costly.add_again([task for task in tasks if task.costly])

    def take(self, queue: FairQueue, most: int, full_bytes: int) -> list[Task]:
        """Takes the next images of one of the two queues, for one chunk; those that nobody waits for are dropped.

        An image that is tried again travels alone.

        Args:
            queue: `ordinary` or `costly`.
            most: images.
            full_bytes: encoded bytes at which a chunk is full, as it is at `MAX_CHUNK_PRICE_S` of work.
        """
        tasks: list[Task] = []
        size, price_s = 0, 0.0
        while queue and len(tasks) < most and size < full_bytes:
            if tasks and (queue.next.attempts or price_s + queue.next.price_s > MAX_CHUNK_PRICE_S):
                break
            task = queue.pop()
            if task.request.abandoned:
                self.dropped += 1
                continue
            tasks.append(task)
            size += task.image.size
            price_s += task.price_s
        return tasks

    def ahead_of(self, prices_s: Sequence[float]) -> Ahead:
        """Work that waits and would come before the last of new images of one request, at these prices."""
        costly = [price_s for price_s in prices_s if price_s >= COSTLY_PRICE_S]
        images, seconds = 0, list[float | None]()
        for queue, count, price_s in (
            (self.ordinary, len(prices_s) - len(costly), sum(prices_s) - sum(costly)),
            (self.costly, len(costly), sum(costly)),
        ):
            before, ahead_s = queue.ahead_of(price_s) if count else (0, None)
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
