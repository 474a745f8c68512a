"""Labels many files with one engine: in order, and with bounded memory."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from commands.files import read
from pipeline.engine import Engine
from pipeline.errors import ImageError
from pipeline.records import EncodedImage, Outcome, Rejection

MAX_FILES_IN_FLIGHT: Final = 512
"""Limit on files in flight: enough to keep workers and device busy behind a slow file."""

MAX_BYTES_IN_FLIGHT: Final = 256 << 20
"""Limit on bytes of files in flight; one more file may be read, and waits until it fits."""

CHECK_INTERVAL_S: Final = 0.25
"""Seconds between checks, while waiting, for a stop and for a broken engine."""


@dataclass(frozen=True, slots=True)
class _InFlight:
    file: str
    size: int  # bytes
    outcomes: Future[list[Outcome]]


class Labelling:
    """Labels files one after another; a thread reads ahead of the engine.

    Args:
        engine: a started engine.
        files: names of the files.

    Attributes:
        stopped: may be set at any time, also by a signal handler; then no more outcomes come.
    """

    def __init__(self, engine: Engine, files: Iterable[str]) -> None:
        self.stopped = False
        self._engine, self._files = engine, files
        self._changed = threading.Condition()  # guards the next three
        self._in_flight: deque[_InFlight] = deque()
        self._bytes = 0
        self._all_read = False
        self._failure: Exception | None = None
        self._reader = threading.Thread(target=self._read_ahead, name="reader", daemon=True)

    def outcomes(self) -> Iterator[tuple[str, Outcome]]:
        """Yield each file with its outcome, in order; end early when `stopped` is set. Can be called once.

        Raises:
            ServerError: the engine, not an image, is at fault.
        """
        self._reader.start()
        try:
            while head := self._head():
                outcome = self._settled(head)
                if outcome is None:
                    return
                yield head.file, outcome
                self._take_off(head)
        finally:
            self.stopped = True
            with self._changed:
                self._changed.notify_all()

    def _head(self) -> _InFlight | None:
        """Take the next file; None at the end."""
        with self._changed:
            while not (self._in_flight or self._all_read or self.stopped):
                self._changed.wait(CHECK_INTERVAL_S)
            if self._failure and not self._in_flight:
                raise self._failure
            return self._in_flight[0] if self._in_flight and not self.stopped else None

    def _settled(self, head: _InFlight) -> Outcome | None:
        """Wait for the outcome of a file; None once the run is stopped."""
        while not self.stopped:
            try:
                return head.outcomes.result(CHECK_INTERVAL_S)[0]
            except TimeoutError:
                self._engine.check()
        return None

    def _take_off(self, head: _InFlight) -> None:
        with self._changed:
            self._in_flight.popleft()
            self._bytes -= head.size
            self._changed.notify_all()

    # ---- the reader's thread ----------------------------------------------------------------------------------------

    def _read_ahead(self) -> None:
        try:
            for file in self._files:
                if not self._send(file):
                    break
        except Exception as error:  # noqa: BLE001 - raised again in `outcomes`
            self._failure = error
        finally:
            with self._changed:
                self._all_read = True
                self._changed.notify_all()

    def _send(self, file: str) -> bool:
        """Read a file and submit it as soon as there is room; return False once the run is stopped."""
        data, rejection = b"", None
        try:
            data = read(file, self._engine.limits.max_image_bytes)
        except ImageError as error:
            rejection = Rejection(error)
        with self._changed:
            while self._is_full(len(data)) and not self.stopped:
                self._changed.wait(CHECK_INTERVAL_S)
            if self.stopped:
                return False
            outcomes = _answered(rejection) if rejection else self._engine.submit([[EncodedImage(data)]])[0]
            self._in_flight.append(_InFlight(file, len(data), outcomes))
            self._bytes += len(data)
            self._changed.notify_all()
        return True

    def _is_full(self, more: int) -> bool:
        """Return whether `more` bytes have to wait; never with nothing in flight, as nothing would end the wait."""
        if not self._in_flight:
            return False
        return len(self._in_flight) >= MAX_FILES_IN_FLIGHT or self._bytes + more > MAX_BYTES_IN_FLIGHT


def _answered(outcome: Outcome) -> Future[list[Outcome]]:
    future: Future[list[Outcome]] = Future()
    future.set_result([outcome])
    return future
