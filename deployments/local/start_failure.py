"""Shortens the error of a failed start to what its reader can act on: one sentence, and the traceback of his own code.

Serve reports the tracebacks of its controller, of the replica's process and of Darkroom, one around the other, as text.
"""

import re
from collections.abc import Sequence
from typing import Final

from pipeline.users_code import is_users

_BEGINNING: Final = "Traceback (most recent call last):"
_COLOUR: Final = re.compile(r"\\x1b\[[0-9;]*m|\x1b\[[0-9;]*m")
_FRAME: Final = re.compile(r'  File "(?P<file>[^"]+)", line \d+')
_ERROR: Final = re.compile(r"(?P<kind>[A-Za-z_][\w.]*): (?P<says>.*)", re.DOTALL)
_OWN_KINDS: Final = ("pipeline.errors.", "deployments.")


def shortened(message: str) -> str:
    """Return the sentence of the innermost error in a message of Serve's, and the traceback of the user's own code.

    Args:
        message: text that ends with Python's tracebacks; one without any is returned as it is.
    """
    parts = _COLOUR.sub("", message).split(_BEGINNING)
    if len(parts) == 1:
        return message.strip()
    *_, last = (_Section(part) for part in parts[1:])
    users = next((text for text in (_Section(part).users_traceback for part in parts[1:]) if text), "")
    return f"{last.sentence}\n{users}".strip()


class _Section:
    """One traceback: frames, then the error."""

    def __init__(self, text: str) -> None:
        lines = text.strip("\n").splitlines()
        inner = [number for number, line in enumerate(lines) if line.startswith(" ")]
        end = inner[-1] + 1 if inner else 0
        self._frames, self._error = lines[:end], _before_next(lines[end:])

    @property
    def sentence(self) -> str:
        """The error without its class, if that is Darkroom's own or ValueError, with which it refuses settings."""
        error = "\n".join(self._error).strip()
        found = _ERROR.match(error)
        if found and (found["kind"] == "ValueError" or found["kind"].startswith(_OWN_KINDS)):
            return found["says"].strip()
        return error

    @property
    def users_traceback(self) -> str:
        """The frames from the first one in the user's code on, and the error; empty if there is none."""
        for number, line in enumerate(self._frames):
            frame = _FRAME.match(line)
            if frame and is_users(frame["file"]):
                return "\n".join(["Traceback of your code:", *self._frames[number:], *self._error])
        return ""


def _before_next(lines: Sequence[str]) -> list[str]:
    """Return the lines of an error, without Python's words between it and the next traceback."""
    words = ("The above exception was the direct cause", "During handling of the above exception")
    end = next((number for number, line in enumerate(lines) if line.startswith(words)), len(lines))
    return [line for line in lines[:end] if line.strip()]
