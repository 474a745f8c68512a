"""Checks of free space on the file systems that a run writes to."""

import os
from pathlib import Path
from typing import Final

from deployments.local.endpoint import StartError

NEEDED_DISK_BYTES: Final = 64 << 20
"""Free bytes that a run needs: several times the sockets, settings and logs of its first hours."""

NEEDED_DISK_FILES: Final = 1000

SHARED_MEMORY_BYTES: Final = 16 << 20
"""Free shared memory below which a warning is given; the 64 MiB that containers have by default are enough."""

SHARED_MEMORY_FOLDER: Final = Path("/dev/shm")  # noqa: S108  only inspected


def check_space(folder: Path) -> None:
    """Check that a run can write to a folder; Ray would retry endlessly, each time with another message.

    Raises:
        StartError: too little is free; the message names the free and needed amount, and a remedy.
    """
    try:
        about = os.statvfs(folder)
    except OSError as error:
        raise StartError(f"a run keeps its sockets and logs in {folder}: {error.strerror}") from error
    free = about.f_bavail * about.f_frsize
    if free < NEEDED_DISK_BYTES:
        raise StartError(
            f"{folder} has {free >> 20} MiB free, and a run needs {NEEDED_DISK_BYTES >> 20} MiB there for its sockets "
            f"and logs: {_WHAT_TO_DELETE}"
        )
    if about.f_files > 0 and about.f_favail < NEEDED_DISK_FILES:  # some file systems do not count files
        raise StartError(
            f"{folder} has room for {about.f_favail} more files, and a run needs {NEEDED_DISK_FILES}: {_WHAT_TO_DELETE}"
        )


def shared_memory_note(folder: Path = SHARED_MEMORY_FOLDER) -> str:
    """Return a warning if shared memory is full or missing, else an empty text.

    Darkroom itself stores nothing there, and Ray falls back to the folder of the run.
    """
    try:
        about = os.statvfs(folder)
    except OSError as error:
        return f"{folder}: {error.strerror}; Ray keeps its objects in files instead"
    free = about.f_bavail * about.f_frsize
    if free >= SHARED_MEMORY_BYTES:
        return ""
    return (
        f"{folder} has {free >> 20} MiB free: Ray keeps its objects in files instead, which is slow where bodies pass "
        "Serve's own proxy. Delete what is not needed there, or give the container more (--shm-size)"
    )


_WHAT_TO_DELETE: Final = "delete what is not needed there, such as logs of earlier runs"
