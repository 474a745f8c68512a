"""The console of a run: warnings and errors are shown there, and all that Ray prints is kept in a file."""

import contextlib
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Final

from deployments.local.endpoint import Endpoint
from deployments.local.waiting_replicas import WaitingReplicas

FILE_BYTES: Final = 10_000_000
"""Size at which the file is renamed to `printed.log.1`, and a new one begun."""

LINES_SHOWN: Final = 100
WINDOW_S: Final = 10.0
"""No more lines are shown within so many seconds: what repeats a thousand times is in the file."""

_LINE_BYTES: Final = 65_536
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_SOURCE: Final = re.compile(r"\((?P<source>[^()]+)\) ?")
_HEAD: Final = re.compile(
    r"(?:(?P<serve>[A-Z]+) \d{4}-\d\d-\d\d [\d:,]+ "  # WARNING 2026-01-31 12:00:00,000 darkroom_Classifier ...
    r"|\d{4}-\d\d-\d\d [\d:,]+\s+(?P<ray>[A-Z]+) "  # 2026-01-31 12:00:00,000 WARNING worker.py:1 -- ...
    r"|\[\d{4}-\d\d-\d\d [\d:,]+ (?P<core>[A-Z]) )"  # [2026-01-31 12:00:00,000 W 1 1] (raylet) node.cc:1: ...
)
_QUIET: Final = frozenset({"DEBUG", "INFO", "SUCC", "D", "I"})
_HARMLESS: Final = (
    "won't accept connections from HAProxy on other nodes",  # there are no others: Ray runs on this machine alone
    "device: auto found no GPU on any node",  # the announcement names the device
)


class Filter:
    """Tells the lines that a user should see from the rest: warnings, errors, and all that has no level.

    A line that is indented or blank belongs to the one before it from the same process.
    """

    def __init__(self) -> None:
        self._shown = dict[str, bool]()  # whether the last line was, by its source
        self._said = set[str]()

    def shows(self, line: str) -> bool:
        """Whether a line without colours is shown."""
        found = _SOURCE.match(line)
        source, text = (found["source"], line[found.end() :]) if found else ("", line)
        if not text.strip() or text[0].isspace():
            return self._shown.get(source, False)
        self._shown[source] = self._is_news(text)
        return self._shown[source]

    def _is_news(self, text: str) -> bool:
        head = _HEAD.match(text)
        if head is None:
            return True
        if (head["serve"] or head["ray"] or head["core"]) in _QUIET or any(part in text for part in _HARMLESS):
            return False
        # The builder and each replica say the same of a configuration.
        message = text.partition(" -- ")[2]
        repeated = message in self._said and "WARNING" in head[0]
        if message and len(self._said) < LINES_SHOWN:
            self._said.add(message)
        return not repeated


class Printed(threading.Thread):
    """Reads what `serve run` prints until it ends: every line into a file, few of them to the console.

    Args:
        pipe: from `serve run`.
        path: of the file; two of them take at most twice `FILE_BYTES`.
        waiting: tells what is said of replicas that find no room.
    """

    def __init__(self, pipe: IO[bytes], path: Path, waiting: WaitingReplicas) -> None:
        super().__init__(name="printed", daemon=True)
        self._pipe, self._path, self._waiting = pipe, path, waiting
        self._filter, self._muted = Filter(), False
        self._since, self._shown = time.monotonic(), 0

    def mute(self) -> None:
        """Show nothing more: what Ray's processes say of each other's end is no news."""
        self._muted = True

    def run(self) -> None:
        """Read until the pipe is closed."""
        file = _File(self._path, maxBytes=FILE_BYTES, backupCount=1, encoding="utf-8", errors="replace")
        with self._pipe, contextlib.suppress(OSError), closing(file):  # closing writes once more, to a full disk too
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
        """Go on without a file: a disk that is full must not end what reads the pipe, or the service would stall."""


def say(text: str) -> None:
    """Print to standard output; where nobody reads that any more, go on."""
    _write(sys.stdout, text)


def complain(text: str) -> None:
    """Print to standard error, likewise."""
    _write(sys.stderr, text)


def _write(stream: IO[str] | None, text: str) -> None:
    if stream is not None:  # as Python has it where the shell has closed it
        with contextlib.suppress(OSError, ValueError):
            stream.write(f"{text}\n")
            stream.flush()


def announcement(endpoint: Endpoint, info: Mapping[str, object] | None, logs: Path, printed: Path) -> str:
    """Say what is served, where, how to try it and where the logs are.

    Args:
        endpoint: of the service.
        info: its answer to GET /info; None where it asks for a key.
        logs: folder of the replicas' log files.
        printed: file with what Ray prints.
    """
    picture = "examples/chelsea.jpg" if Path("examples/chelsea.jpg").exists() else "photo.jpg"
    key = "" if info is not None else "-H 'Authorization: Bearer KEY' "
    lines = [
        f"Darkroom answers at {endpoint.url} until Ctrl-C.",
        f"  serves  {_served(info)}",
        f"  try     curl {key}-F image=@{picture} {endpoint.url}/predict",
        f"  ask     {endpoint.url}/info (settings), /stats (load), /openapi.json (the API)",
        f"  logs    {logs} (replicas), {printed} (Ray)",
    ]
    return "\n".join(lines)


def _served(info: Mapping[str, object] | None) -> str:
    if info is None:
        return "what GET /info tells to whoever has a key"
    parts = [f"{info['model']}" if "model" in info else "an application"]
    if weights := info.get("weights"):
        parts.append(f"with weights {weights}")
    if device := info.get("device"):
        parts.append(f"on {device}")
    if workers := info.get("decode_workers"):
        parts.append(f"with {workers} decoding worker{'s' * (workers != 1)} in each replica")
    return " ".join(parts)
