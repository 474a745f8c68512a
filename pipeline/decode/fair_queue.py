"""The images that wait for a worker, in an order that shares decoding time fairly between requests.

Costly images wait in a queue of their own, so that many of them do not delay ordinary images.
"""

import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.bounds import COSTLY_FROM_S, MAX_CHUNK_COST_S, OTHERS_LEFT_ALONE_FOR_S
from pipeline.pace import DecodePace
from pipeline.task import Task

_ROUNDING_S: Final = 1e-9
"""Difference by which sums of the same costs may differ."""


class _Share:
    """The waiting images of one request; sorted by the time at which the first ends on the clock of `FairQueue`."""

    __slots__ = ("cost_s", "ends_at_s", "number", "tasks")

    def __init__(self, tasks: list[Task], now_s: float, number: int) -> None:
        self.tasks, self.number = deque(tasks), number
        self.cost_s = sum(task.cost_s for task in tasks)
        self.ends_at_s = now_s + tasks[0].cost_s

    def __lt__(self, other: "_Share") -> bool:
        return (self.ends_at_s, self.number) < (other.ends_at_s, other.number)

    def pop(self) -> Task:
        task = self.tasks.popleft()
        self.cost_s -= task.cost_s
        if self.tasks:
            self.ends_at_s += self.tasks[0].cost_s
        return task


class FairQueue:
    """A fair queue: requests that wait equally long get equally many seconds of work.

    The clock is that of self-clocked fair queueing: an image ends one cost after the previous image of its request, or
    for a new request one cost after the end of the image taken last. The image that ends first is taken first. So
    requests whose images cost the same alternate image by image, and a cheap image does not wait for costlier ones of
    another request that came at the same time. (Golestani, A self-clocked fair queueing scheme for broadband
    applications, 1994.)

    Images that are tried again go before all others.
    """

    def __init__(self) -> None:
        self._again: deque[Task] = deque()
        self._requests: list[_Share] = []  # a heap without empty shares
        self._numbers = itertools.count()
        self._now_s = 0.0
        self._count = 0

    def __len__(self) -> int:
        """Return the number of images that wait."""
        return self._count

    def __iter__(self) -> Iterator[Task]:
        """Iterate over all waiting images, in no particular order."""
        yield from self._again
        for request in self._requests:
            yield from request.tasks

    def add(self, tasks: Iterable[Task]) -> None:
        """Append images, each behind the earlier ones of its request."""
        for _, group in itertools.groupby(tasks, key=lambda task: task.request):
            request = _Share(list(group), self._now_s, next(self._numbers))
            self._count += len(request.tasks)
            heapq.heappush(self._requests, request)

    def add_again(self, tasks: list[Task]) -> None:
        """Put images back before all others, in this order."""
        self._again.extendleft(reversed(tasks))
        self._count += len(tasks)

    @property
    def next(self) -> Task:
        """The image that `pop` would return; IndexError if none waits."""
        return self._again[0] if self._again else self._requests[0].tasks[0]

    def pop(self) -> Task:
        """Take the next image; IndexError if none waits."""
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

    def ahead_of(self, cost_s: float) -> tuple[int, float]:
        """Return the number and cost of the images ahead of the last of a new request's images, of `cost_s` in total.

        Images of requests that no longer wait are not counted, as they are dropped when it is their turn.
        """
        last_s = self._now_s + cost_s
        images, ahead_s = len(self._again), sum(task.cost_s for task in self._again)
        for request in self._requests:
            if request.ends_at_s <= last_s + _ROUNDING_S and not request.tasks[0].request.future.abandoned:
                mean_s = request.cost_s / len(request.tasks)
                count = min(len(request.tasks), 1 + int((last_s + _ROUNDING_S - request.ends_at_s) / mean_s))
                images += count
                ahead_s += count * mean_s
        return images, ahead_s

    @property
    def wanted(self) -> int:
        """Number of images whose requests still wait."""
        return len(self._again) + sum(
            len(request.tasks) for request in self._requests if not request.tasks[0].request.future.abandoned
        )

    def clear(self) -> None:
        """Remove all images."""
        self._again.clear()
        self._requests.clear()
        self._count = 0


@dataclass(frozen=True, slots=True)
class Ahead:
    """Work that would come before the last of new images of one request."""

    images: int
    ordinary_s: float | None  # seconds ahead of the ordinary ones, at the present pace; None if there are none
    costly_s: float | None  # seconds ahead of the costly ones; None if there are none


class Backlog:
    """The queue of ordinary images and the queue of costly ones.

    Attributes:
        ordinary: images whose cost is below `COSTLY_FROM_S`. The pace is not applied: while costly images use the
            cores, all images take longer, and no photograph should count as costly for that.
        costly: the other images.
        pace: ratio of seconds to costs on this machine.
        dropped: number of images whose requests no longer waited when it was their turn.
    """

    def __init__(self) -> None:
        self.ordinary, self.costly = FairQueue(), FairQueue()
        self.pace = DecodePace()
        self.dropped = 0
        self._ordinary_came_at = -math.inf

    def __iter__(self) -> Iterator[Task]:
        """Iterate over all waiting images, in no particular order."""
        yield from self.ordinary
        yield from self.costly

    def add(self, tasks: Iterable[Task]) -> None:
        """Append images, each behind the earlier ones of its request."""
        ordinary, costly = list[Task](), list[Task]()
        for task in tasks:
            task.costly = task.cost_s >= COSTLY_FROM_S
            (costly if task.costly else ordinary).append(task)
        if ordinary:
            self._ordinary_came_at = time.monotonic()
        self.ordinary.add(ordinary)
        self.costly.add(costly)

    def add_again(self, tasks: Sequence[Task]) -> None:
        """Put images back before all others, in this order."""
        self.ordinary.add_again([task for task in tasks if not task.costly])
        self.costly.add_again([task for task in tasks if task.costly])

    def take(self, queue: FairQueue, most: int, full_bytes: int) -> list[Task]:
        """Take the next images of one of the two queues, for one chunk; drop those whose requests no longer wait.

        An image that is tried again has a chunk of its own.

        Args:
            queue: `ordinary` or `costly`.
            most: most images in the chunk.
            full_bytes: encoded bytes at which a chunk is full; it is also full at a cost of `MAX_CHUNK_COST_S`.
        """
        tasks: list[Task] = []
        size, cost_s = 0, 0.0
        while queue and len(tasks) < most and size < full_bytes:
            if tasks and (queue.next.attempts or cost_s + queue.next.cost_s > MAX_CHUNK_COST_S):
                break
            task = queue.pop()
            if task.request.abandoned:
                self.dropped += 1
                continue
            tasks.append(task)
            size += task.image.size
            cost_s += task.cost_s
        return tasks

    def ahead_of(self, costs_s: Sequence[float]) -> Ahead:
        """Return the waiting work ahead of the last of new images of one request, at these costs."""
        costly = [cost_s for cost_s in costs_s if cost_s >= COSTLY_FROM_S]
        images, seconds = 0, list[float | None]()
        for queue, count, cost_s in (
            (self.ordinary, len(costs_s) - len(costly), sum(costs_s) - sum(costly)),
            (self.costly, len(costly), sum(costly)),
        ):
            before, ahead_s = queue.ahead_of(cost_s) if count else (0, None)
            images += before
            seconds.append(None if ahead_s is None else ahead_s * self.pace.ratio)
        return Ahead(images, *seconds)

    @property
    def is_costly_alone(self) -> bool:
        """True if no ordinary image waits, or has come lately."""
        return not self.ordinary and time.monotonic() - self._ordinary_came_at > OTHERS_LEFT_ALONE_FOR_S

    @property
    def wanted(self) -> int:
        """Number of images whose requests still wait."""
        return self.ordinary.wanted + self.costly.wanted

    def clear(self) -> None:
        """Remove all images."""
        self.ordinary.clear()
        self.costly.clear()
