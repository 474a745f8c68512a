"""Fetches pinned files from object stores, model hubs and web servers.

Hazard: several replicas start at once on one machine and want the same file; a fetch may be cut off; a server may send
something else, or a byte a minute. Guard: every fetch writes a file of its own, which gets its final name only when its
digest is right. One process fetches and the others wait for it. A fetch ends when nothing has arrived for a while.
Test: `tests/pipeline/model/test_fetch.py`.
"""

import fcntl
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO
from urllib.error import HTTPError
from urllib.request import urlopen

from pipeline.bounds import FETCH_STALLED_AFTER_S, FETCH_TIMEOUT_S
from pipeline.errors import InvalidModel, first_line
from pipeline.pinned_file import EXTRAS, PinnedFile

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})

_POLL_S: Final = 0.05
_READ_BYTES: Final = 1 << 20


def local_path(file: PinnedFile) -> Path:
    """Return the path of a file on this machine, with the content that is pinned; fetch it if need be.

    Raises:
        InvalidModel: the file cannot be fetched or read, or its content is not the one that is pinned.
    """
    if not file.scheme:
        path = Path(file.place)
        file.check(path)
        return path
    path = file.kept_at()
    if _is_kept(file, path):
        return path
    _Fetch(file, path).run()
    return path


def _is_kept(file: PinnedFile, path: Path) -> bool:
    """Return whether the file is there; remove it if its content has changed on the disk."""
    if not path.is_file():
        return False
    try:
        file.check(path)
    except InvalidModel as error:
        logger.warning("%s; it is fetched again", error)
        path.unlink(missing_ok=True)
        return False
    return True


class _Fetch:
    """One fetch, in a thread of its own: a library that hangs cannot be interrupted, but it can be left behind.

    Args:
        file: the file, by its URL.
        path: its path on this machine.
    """

    def __init__(self, file: PinnedFile, path: Path) -> None:
        self._file, self._path = file, path
        self._error: BaseException | None = None
        self._abandoned = threading.Event()
        self._done = threading.Event()
        self._moved_at = time.monotonic()

    def run(self) -> None:
        """Fetch the file and check it.

        Raises:
            InvalidModel: see `local_path`.
        """
        ends_at = time.monotonic() + FETCH_TIMEOUT_S
        threading.Thread(target=self._work, name="fetch", daemon=True).start()
        while not self._done.wait(_POLL_S):
            now = time.monotonic()
            if now > ends_at or now - self._moved_at > FETCH_STALLED_AFTER_S:
                self._abandoned.set()
                why = f"in {FETCH_TIMEOUT_S:.0f} s" if now > ends_at else f"for {FETCH_STALLED_AFTER_S:.0f} s"
                raise InvalidModel(f"{self._file.setting}: {self._file} has not arrived: nothing new came {why}")
        if isinstance(self._error, InvalidModel):
            raise self._error
        if self._error:
            raise InvalidModel(
                f"{self._file.setting}: {self._file} cannot be fetched: {first_line(self._error)}"
            ) from self._error

    def _work(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._alone():
                if not _is_kept(self._file, self._path):  # another replica may have fetched it meanwhile
                    self._fetch()
        except BaseException as error:  # noqa: BLE001 - raised by `run` in the caller's thread
            self._error = error
        finally:
            self._done.set()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other process fetches this file; then remove what fetches that were killed have left."""
        with self._path.with_suffix(".lock").open("w") as lock:
            try:
                while not _locked(lock):
                    self._moves(0)
                    self._abandoned.wait(_POLL_S)
            except OSError:  # a file system without locks: each process fetches for itself
                yield
                return
            for left in self._path.parent.glob(f"{self._path.name}.*.part"):
                left.unlink(missing_ok=True)
            yield

    def _fetch(self) -> None:
        logger.info("%s: fetching %s to %s", self._file.setting, self._file, self._path)
        handle, name = tempfile.mkstemp(prefix=f"{self._path.name}.", suffix=".part", dir=self._path.parent)
        os.close(handle)
        part = Path(name)
        try:
            fetch = _by_http if self._file.scheme in ("http", "https") else _by_fsspec
            fetch(self._file, part, self._moves)
            self._file.check(part)
            self._moves(0)
            part.replace(self._path)
        finally:
            part.unlink(missing_ok=True)

    def _moves(self, _bytes: int) -> None:
        """Note that bytes have arrived; end the fetch if nobody waits for it any more."""
        if self._abandoned.is_set():
            raise TimeoutError("the fetch was given up")
        self._moved_at = time.monotonic()


def _locked(lock: TextIO) -> bool:
    """Lock a file if no other process has; return whether it is locked now.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _by_http(file: PinnedFile, path: Path, moves: Callable[[int], None]) -> None:
    """Write the content of a URL to a path; call `moves` with the number of bytes whenever some have arrived."""
    try:
        answer = urlopen(file.place, timeout=FETCH_STALLED_AFTER_S)  # noqa: S310 - the scheme is http or https
    except HTTPError as error:
        error.close()  # it is the answer as well
        raise
    with answer, path.open("wb") as part:
        while piece := answer.read1(_READ_BYTES):
            part.write(piece)
            moves(len(piece))


def _by_fsspec(file: PinnedFile, path: Path, moves: Callable[[int], None]) -> None:
    """Do the same by the file system that fsspec has for the scheme, with the credentials that it finds.

    Raises:
        InvalidModel: the package with that file system is not installed.
    """
    import fsspec  # only here, as most models do without it

    class Progress(fsspec.callbacks.Callback):  # type: ignore[misc]  # fsspec ships no types
        """Reports each piece that arrives."""

        def relative_update(self, inc: int = 1) -> None:
            moves(inc)

    try:
        system, place = fsspec.url_to_fs(file.place)
    except ImportError as error:
        raise InvalidModel(
            f"{file.setting}: {file} needs a package that is not installed; type pip install "
            f"'darkroom[{EXTRAS[str(file.scheme)]}]'"
        ) from error
    system.get_file(place, str(path), callback=Progress())
