"""Exit statuses, and the last sentence of a command that cannot go on."""

import signal
import sys
from contextlib import suppress
from typing import Final, NoReturn

import typer

REFUSED: Final = 1
"""A configuration is wrong, a port is taken; or a file has no prediction."""

UNUSABLE: Final = 2
"""The arguments cannot be used, and nothing was started; a wrong option has the same status."""

FAILED: Final = 3
"""Darkroom, its machine or its configuration is at fault."""

INTERRUPTED: Final = 128 + signal.SIGINT
"""The user pressed Ctrl-C."""


_LONGEST: Final = 10_000
"""Characters of a message: a name that was typed may have a hundred thousand."""

CLOSED: Final = 128 + signal.SIGPIPE
"""Nobody reads what is printed any more."""


def fail(message: str, status: int) -> NoReturn:
    """Writes one sentence to stderr and ends the process with a status."""
    say(message)
    raise typer.Exit(status)


def say(message: str) -> None:
    """Writes a line to stderr; characters that are not printable are escaped."""
    if len(message) > _LONGEST:
        message = f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 2 :]}"
    text = "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in message)
    with suppress(OSError):  # nobody is there to be told
        sys.stderr.write(f"darkroom: {text}\n")
        sys.stderr.flush()
