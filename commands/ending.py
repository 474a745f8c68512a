"""How a command ends that cannot go on."""

import signal
import sys
from contextlib import suppress
from typing import Final, NoReturn

import typer

REFUSED: Final = 1
"""A configuration is wrong, a port is taken; or a file has no prediction."""

UNUSABLE: Final = 2
"""What was typed cannot be done, and nothing has been begun; a wrong option ends in the same."""

FAILED: Final = 3
"""Darkroom, its machine or its configuration is at fault."""

INTERRUPTED: Final = 128 + signal.SIGINT
"""Ctrl-C."""


_LONGEST: Final = 10_000
"""Characters of a message: a name that was typed may have a hundred thousand."""

CLOSED: Final = 128 + signal.SIGPIPE
"""Nobody reads what is printed any more."""


def fail(message: str, status: int) -> NoReturn:
    """Says on stderr what is wrong, in one sentence, and ends."""
    say(message)
    raise typer.Exit(status)


def say(message: str) -> None:
    """A line on stderr; what is no text in it, or would move the cursor, stands as an escape."""
    if len(message) > _LONGEST:
        message = f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 2 :]}"
    text = "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in message)
    with suppress(OSError):  # nobody is there to be told
        sys.stderr.write(f"darkroom: {text}\n")
        sys.stderr.flush()
