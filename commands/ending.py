"""How a command ends that cannot go on."""

import signal
import sys
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


def fail(message: str, status: int) -> NoReturn:
    """Says on stderr what is wrong, in one sentence, and ends."""
    say(message)
    raise typer.Exit(status)


def say(message: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"darkroom: {message}\n")
