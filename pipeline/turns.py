"""Whose turn it is: the images that wait for a worker, one of each request after the other."""

from collections import deque
from collections.abc import Iterable, Iterator

from pipeline.task import Task


class Turns:
    """A queue that is fair between requests: one image waits for no more than one image of each other request.

    What was begun and is to be tried again goes before everything.
    """

    def __init__(self) -> None:
        self._again: deque[Task] = deque()
        self._requests: deque[deque[Task]] = deque()  # none of them empty; the first one's turn
        self._count = 0

    def __len__(self) -> int:
        """How many images wait."""
        return self._count

    def __iter__(self) -> Iterator[Task]:
        """All that wait, in no order that means anything."""
        yield from self._again
        for request in self._requests:
            yield from request

    def add(self, tasks: Iterable[Task]) -> None:
        """Appends images, each behind the others of its request."""
        last = None
        for task in tasks:
            if last is None or task.request is not last.request:
                self._requests.append(deque())
            self._requests[-1].append(task)
            self._count += 1
            last = task

    def add_again(self, tasks: list[Task]) -> None:
        """Puts images back, before all others and in this order."""
        self._again.extendleft(reversed(tasks))
        self._count += len(tasks)

    @property
    def next(self) -> Task:
        """The image that `pop` would give; IndexError where none waits."""
        return self._again[0] if self._again else self._requests[0][0]

    def pop(self) -> Task:
        """Takes the next image; IndexError where none waits."""
        if self._again:
            task = self._again.popleft()
        else:
            task = self._requests[0].popleft()
            if self._requests[0]:
                self._requests.rotate(-1)
            else:
                self._requests.popleft()
        self._count -= 1
        return task

    def ahead_of(self, images: int) -> int:
        """How many of those that wait would come before the last of so many new ones of one request.

        What nobody waits for any more costs nothing when its turn comes.
        """
        wanted = [len(tasks) for tasks in self._requests if not tasks[0].request.future.abandoned]
        return len(self._again) + (len(wanted) if images == 1 else sum(min(waiting, images) for waiting in wanted))

    def clear(self) -> None:
        """Forgets all of them."""
        self._again.clear()
        self._requests.clear()
        self._count = 0
