"""Error handling of all commands: one sentence for an error of the system, a traceback for a defect.

Expected errors are those of the system (a full disk, a missing file, a closed pipe) and a stop by the user. Every other
exception that a command does not catch is a defect: then Python's traceback is shown, without the values of variables.
"""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from commands.ending import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OUTPUT_CLOSED, EXIT_UNUSABLE, fail, say
from commands.streams import open_closed_streams, settle_streams


class Guarded(TyperGroup):
    """Group of all commands; Click calls `make_context` to parse the arguments and `invoke` to run a command."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """Refuse empty arguments: a quoted shell variable that is not set becomes one."""
        open_closed_streams()
        with _ended_in_words(debug="--debug" in args):
            if any(not each or (each.startswith("--") and each.endswith("=")) for each in args):
                fail("an argument is empty; is a variable of the shell not set?", EXIT_UNUSABLE)
            return super().make_context(info_name, args, *rest, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run a command and flush its output while a failure can still be reported."""
        with _ended_in_words(debug=bool(ctx.params.get("_debug"))):
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()


@contextmanager
def _ended_in_words(*, debug: bool) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader has closed the pipe, as in `| head -1`
        _end(EXIT_OUTPUT_CLOSED)
    except KeyboardInterrupt:
        _end(EXIT_INTERRUPTED, "stopped")
    except Exception as error:
        if isinstance(error, (typer.Exit, typer.Abort)) or hasattr(error, "exit_code"):  # Click's own
            raise
        says = None if debug else _sentence(error)
        if says is None:
            traceback.print_exc()
            says = f"this is a defect, or Darkroom's installation is damaged: {type(error).__name__}"
        _end(EXIT_FAILED, says)


def _end(status: int, says: str | None = None) -> NoReturn:
    settle_streams()
    if says:
        say(says)
    raise typer.Exit(status) from None


def _sentence(error: Exception) -> str | None:
    """Describe an error of the system in a sentence; None for any other error."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return "this user has no home directory: set HOME to a folder of his"
    if not isinstance(error, OSError):
        return None
    reason = error.strerror or str(error)
    if error.filename is None:
        if not _has_working_directory():
            return "the working directory has been removed; change to another one"
        return f"reading or writing has failed: {reason}; darkroom --debug ... shows where"
    return f"{os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else 'a file'}: {reason}"


def _has_working_directory() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False
