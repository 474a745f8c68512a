"""The standard streams of a program that may have been started without some of them, as by `>&-`."""

import io
import os
import sys
from contextlib import suppress
from typing import Any, Final

_STREAMS: Final = (("stdin", os.O_WRONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))
"""Flags to open a stand-in for a closed stream: reading input and writing output fail, messages are lost.

Without a stand-in, the next opened file would get the number of the closed stream, and all output would go into it.
"""


def open_closed_streams() -> None:
    """Open stand-ins for closed streams, and set streams to print undecodable names as escapes."""
    for descriptor, (name, flags) in enumerate(_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest free number: that of the closed stream
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115 - it stays open
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def settle_streams() -> None:
    """Drop buffered output that cannot be written: Python would report it at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _drop(stream)


def _drop(stream: Any) -> None:
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
