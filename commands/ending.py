"""Exit statuses, and the last sentence of a command that cannot go on."""

import signal
import sys
from contextlib import suppress
from typing import Final, NoReturn

import typer

EXIT_REFUSED: Final = 1
"""Status: a configuration is wrong, a port is taken, or a file has no prediction."""

EXIT_UNUSABLE: Final = 2
"""Status: the arguments cannot be used, and nothing was started; Click uses it for a wrong option."""

EXIT_FAILED: Final = 3
"""Status: Darkroom, its machine or its configuration is at fault."""

EXIT_INTERRUPTED: Final = 128 + signal.SIGINT
"""Status: the user pressed Ctrl-C."""


_MAX_MESSAGE_CHARACTERS: Final = 10_000
"""Length to which a message is cut: a typed name may have a hundred thousand characters."""

EXIT_OUTPUT_CLOSED: Final = 128 + signal.SIGPIPE
"""Status: the reader of the output has gone."""


def fail(message: str, status: int) -> NoReturn:
    """Write one sentence to stderr and end the process with a status."""
    say(message)
    raise typer.Exit(status)


def say(message: str) -> None:
    """Write a line to stderr; characters that are not printable are escaped."""
    if len(message) > _MAX_MESSAGE_CHARACTERS:
        message = f"{message[: _MAX_MESSAGE_CHARACTERS // 2]} ... {message[-_MAX_MESSAGE_CHARACTERS // 2 :]}"
    text = "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in message)
    with suppress(OSError):  # stderr is closed
        sys.stderr.write(f"darkroom: {text}\n")
        sys.stderr.flush()
