"""Shortens the error of a failed start to what its reader can act on: one sentence, and the traceback of his own code.

Serve reports the tracebacks of its controller, of the replica's process and of Darkroom, one around the other, as text.
"""

import re
from typing import Final

from pipeline.users_code import is_users

_BETWEEN: Final = re.compile(
    r"Traceback \(most recent call last\):|The above exception was the direct cause of the following exception:"
    r"|During handling of the above exception, another exception occurred:"
)
_COLOUR: Final = re.compile(r"\\x1b\[[0-9;]*m|\x1b\[[0-9;]*m")
_FRAME: Final = re.compile(r'  File "(?P<file>[^"]+)", line \d+')
_CODE: Final = "    "
"""Beginning of the lines of code below a frame."""

_ERROR: Final = re.compile(r"(?P<kind>[A-Za-z_][\w.]*): (?P<says>.*)", re.DOTALL)
_OWN_KINDS: Final = ("pipeline.errors.", "deployments.")


def shortened(message: str) -> str:
    """Return the sentence of the innermost error in a message of Serve's, and the traceback of the user's own code.

    Args:
        message: text that ends with Python's tracebacks; one without any is returned as it is.
    """
    _, *parts = _BETWEEN.split(_COLOUR.sub("", message))
    sections = [_Section(part) for part in parts if part.strip()]
    if not sections:
        return message.strip()
    users = next((text for text in (section.users_traceback for section in sections) if text), "")
    return f"{sections[-1].sentence}\n{users}".strip()


class _Section:
    """One traceback: frames, then the error."""

    def __init__(self, text: str) -> None:
        lines = [line for line in text.splitlines() if line.strip()]
        frames = [number for number, line in enumerate(lines) if _FRAME.match(line)]
        end = frames[-1] + 1 if frames else 0
        while end < len(lines) and lines[end].startswith(_CODE):
            end += 1
        self._frames, self._error = lines[:end], lines[end:]

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
