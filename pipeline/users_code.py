"""Places in a user's own code, his model, transform or head, for messages about its errors. Does not import torch."""

import site
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_NOT_THE_USERS: Final = tuple(
    {
        *(f"{Path(__file__).parents[1] / package}/" for package in ("pipeline", "deployments", "commands")),
        *(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *(f"{folder}/" for folder in site.getsitepackages()),
        "<",  # code without a file, such as <frozen importlib> and what torch compiles
    }
)


_INSTALLED: Final = ("/site-packages/", "/dist-packages/")
"""Parts of the paths of installed packages, also of those in a folder of PYTHONPATH."""


def is_users(file: str) -> bool:
    """Return whether a file of a traceback belongs neither to Darkroom nor to Python nor to an installed package."""
    return not file.startswith(_NOT_THE_USERS) and not any(part in file for part in _INSTALLED)


def place_of(error: BaseException) -> str:
    """Return file and line of the user's code in which an error arose, as "file:line"; empty if there is none.

    This is the innermost line of the traceback that belongs neither to Darkroom nor to an installed package.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.lineno]
    users = [frame for frame in frames if is_users(frame.filename)]
    return f"{users[-1].filename}:{users[-1].lineno}" if users else ""


def place_of_function(function: Callable[..., Any]) -> str:
    """Return file and line at which a function is defined, as "file:line"; empty for one that is not Python."""
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else ""


def in_place(error: BaseException) -> str:
    """Return class, first line and place of an error of the user's code, for a message."""
    place = place_of(error)
    message = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return f"{message} (in {place})" if place else message


def users_traceback(error: BaseException) -> str:
    """Return the traceback of the user's code that led to an error, without Darkroom's lines; empty if there is none.

    It begins at the first line of his code, and goes on into the libraries that he calls. Of an error and its causes,
    the innermost that arose in his code counts.
    """
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    for each in reversed(causes):
        frames = traceback.extract_tb(each.__traceback__)
        users = [number for number, frame in enumerate(frames) if is_users(frame.filename)]
        if users:
            lines = traceback.format_list(frames[users[0] :])
            return "".join(["Traceback of your code:\n", *lines, *traceback.format_exception_only(each)])
    return ""
