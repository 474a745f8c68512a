"""The console of a run: shows warnings and errors, and writes everything that Ray prints to a file."""

import contextlib
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Final, cast

from deployments.local.readiness import Readiness
from deployments.local.waiting_replicas import WaitingReplicas

FILE_BYTES: Final = 10_000_000
"""Size at which the file is renamed to `printed.log.1`, and a new file is begun."""

LINES_SHOWN: Final = 100
WINDOW_S: Final = 10.0
"""Window in which at most `LINES_SHOWN` lines are shown; the file has all of them."""

_LINE_BYTES: Final = 65_536
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_SOURCE: Final = re.compile(r"\((?P<source>[^()]+)\) ?")
_HEAD: Final = re.compile(
    r"(?:(?P<serve>[A-Z]+) \d{4}-\d\d-\d\d [\d:,]+ "  # WARNING 2026-01-31 12:00:00,000 darkroom_Model ...
    r"|\d{4}-\d\d-\d\d [\d:,]+\s+(?P<ray>[A-Z]+) "  # 2026-01-31 12:00:00,000 WARNING worker.py:1 -- ...
    r"|\[\d{4}-\d\d-\d\d [\d:,]+ (?P<core>[A-Z]) )"  # [2026-01-31 12:00:00,000 W 1 1] (raylet) node.cc:1: ...
)
_CONTROLLER: Final = "ServeController"
_TRACEBACK: Final = "Traceback (most recent call last):"
_INNERMOST_ERROR: Final = re.compile(r"(?!ray\.)[A-Za-z_][\w.]*: (?!Traceback \(most)")
_QUIET: Final = frozenset({"DEBUG", "INFO", "SUCC", "D", "I"})

NO_GPU: Final = "device: auto found no GPU on any node"
"""Beginning of the warning that `device: auto` has come to the CPU."""

_HARMLESS: Final = (
    "won't accept connections from HAProxy on other nodes",  # there are no other nodes
    NO_GPU,  # the announcement says so
)


class Filter:
    """Selects the lines that a user should see: warnings, errors, and lines without a level.

    An indented or blank line belongs to the line before it from the same process. Of the tracebacks of Serve's
    controller, which go through Ray, Serve and Darkroom, only the innermost error is shown.
    """

    def __init__(self) -> None:
        self._shown = dict[str, bool]()  # by source: whether its last line was shown
        self._said = set[str]()
        self._in_traceback = set[str]()  # sources whose last lines are those of a traceback

    def shows(self, line: str) -> bool:
        """Return whether to show a line; its colour codes are removed already."""
        found = _SOURCE.match(line)
        source, text = (found["source"], line[found.end() :]) if found else ("", line)
        if not text.strip() or text[0].isspace():
            return self._shown.get(source, False)
        if source.startswith(_CONTROLLER) and self._is_of_traceback(source, text):
            self._shown[source] = False  # nor are the indented lines behind it
            return self._is_new_error(text)
        self._shown[source] = self._is_news(text)
        return self._shown[source]

    def _is_of_traceback(self, source: str, text: str) -> bool:
        if text.startswith(_TRACEBACK):
            self._in_traceback.add(source)
        elif _HEAD.match(text):
            self._in_traceback.discard(source)
        # Ray holds back lines that a replica has printed too, and sends them later.
        return source in self._in_traceback or _INNERMOST_ERROR.match(text) is not None

    def _is_new_error(self, text: str) -> bool:
        """Return whether a line of a traceback is its innermost error, and has not been shown: Serve tries again."""
        is_new = _INNERMOST_ERROR.match(text) is not None and text not in self._said
        if is_new and len(self._said) < LINES_SHOWN:
            self._said.add(text)
        return is_new

    def _is_news(self, text: str) -> bool:
        head = _HEAD.match(text)
        if head is None:
            return True
        if (head["serve"] or head["ray"] or head["core"]) in _QUIET or any(part in text for part in _HARMLESS):
            return False
        # The builder and each replica give the same warnings about a configuration.
        message = text.partition(" -- ")[2]
        repeated = message in self._said and "WARNING" in head[0]
        if message and len(self._said) < LINES_SHOWN:
            self._said.add(message)
        return not repeated


class Printed(threading.Thread):
    """Reads the output of `serve run` until its end: writes every line to a file, and few of them to the console.

    Args:
        pipe: output of `serve run`.
        path: path of the file; with the older file it takes at most twice `FILE_BYTES`.
        waiting: rewrites warnings about replicas that cannot be placed.
    """

    def __init__(self, pipe: IO[bytes], path: Path, waiting: WaitingReplicas) -> None:
        super().__init__(name="printed", daemon=True)
        self._pipe, self._path, self._waiting = pipe, path, waiting
        self._filter, self._muted = Filter(), False
        self._since, self._shown = time.monotonic(), 0

    def mute(self) -> None:
        """Show no more lines: during a stop, Ray's processes only report each other's end."""
        self._muted = True

    def run(self) -> None:
        """Read until the pipe is closed."""
        file = _File(self._path, maxBytes=FILE_BYTES, backupCount=1, encoding="utf-8", errors="replace")
        with self._pipe, contextlib.suppress(OSError), closing(file):  # closing flushes, which fails on a full disk
            while data := self._pipe.readline(_LINE_BYTES):
                line = _COLOUR.sub("", data.decode(errors="replace")).rstrip("\r\n")
                file.emit(logging.LogRecord("printed", logging.INFO, "", 0, line, None, None))
                if self._filter.shows(line) and not self._muted:
                    self._tell(line)

    def _tell(self, line: str) -> None:
        if not self._waiting.concerns(line):
            self._show(line)
        elif news := self._waiting.news(line):
            self._show(f"darkroom: {news}")

    def _show(self, line: str) -> None:
        if time.monotonic() - self._since > WINDOW_S:
            self._since, self._shown = time.monotonic(), 0
        self._shown += 1
        if self._shown < LINES_SHOWN:
            complain(line)
        elif self._shown == LINES_SHOWN:
            complain(f"darkroom: {LINES_SHOWN} lines within {WINDOW_S:.0f} s; the next ones are in {self._path} alone")


class _File(RotatingFileHandler):
    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return open(descriptor, "a", encoding=self.encoding, errors=self.errors)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Ignore a failed write: if a full disk ended this thread, the unread pipe would stall the service."""


def say(text: str) -> None:
    """Print to standard output; ignore a closed output."""
    _write(sys.stdout, text)


def complain(text: str) -> None:
    """Print to standard error; ignore a closed output."""
    _write(sys.stderr, text)


def _write(stream: IO[str] | None, text: str) -> None:
    if stream is not None:  # None if the shell has closed the stream
        with contextlib.suppress(OSError, ValueError):
            stream.write(f"{text}\n")
            stream.flush()


def announcement(readiness: Readiness, logs: Path, printed: Path) -> str:
    """Write the message of a successful start: models, address, a command to try, and the logs.

    Args:
        readiness: the applications that answer, at least one, and those that have failed.
        logs: folder of the replicas' log files.
        printed: file with the output of Ray.
    """
    served = readiness.served
    endpoint, info = next(iter(served.items()))
    several = len(served) + len(readiness.failed) > 1
    picture = "examples/chelsea.jpg" if Path("examples/chelsea.jpg").exists() else "photo.jpg"
    key = "" if info is not None else "-H 'Authorization: Bearer KEY' "
    what = [f"{each.route_prefix}  {_served(found)}" if several else _served(found) for each, found in served.items()]
    failed = [f"{name}, for the reason above" for name in readiness.failed]
    lines = [
        f"Darkroom answers at {endpoint.origin if several else endpoint.url} until Ctrl-C.",
        *_listed("serves", what),
        *_listed("failed", failed),
        f"  try     curl {key}-F image=@{picture} {endpoint.url}/predict",
        f"  ask     {endpoint.url}/info (settings), /stats (load), /openapi.json (the API)",
        f"  logs    {logs} (replicas), {printed} (Ray)",
    ]
    return "\n".join(lines)


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    """Write lines under a title, which stands before the first of them."""
    return [f"  {'' if number else title:8}{line}" for number, line in enumerate(lines)]


def _served(info: Mapping[str, object] | None) -> str:
    if info is None:
        return "see GET /info, which needs a key"
    parts = [f"{info['model']}" if "model" in info else "an application that is not Darkroom"]
    if (weights := info.get("weights_from")) and weights != info.get("model"):
        parts.append(f"with weights from {weights}")
    if device := info.get("device"):
        missing = any(NO_GPU in warning for warning in cast(list[str], info.get("warnings", [])))
        parts.append(f"on {device} (no GPU was found)" if missing else f"on {device}")
    if workers := info.get("decode_workers"):
        parts.append(f"with {workers} decoding worker{'s' * (workers != 1)} in each replica")
    return " ".join(parts)
