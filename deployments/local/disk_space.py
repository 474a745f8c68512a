"""Room on the file systems that a run writes to."""

import os
from pathlib import Path
from typing import Final

from deployments.local.endpoint import StartError

NEEDED_DISK_BYTES: Final = 64 << 20
"""Bytes that sockets, settings and logs of a run take within its first hours, several times over."""

NEEDED_DISK_FILES: Final = 1000

SHARED_MEMORY_BYTES: Final = 16 << 20
"""Containers have 64 MiB unless they are given more, which is enough."""

SHARED_MEMORY_FOLDER: Final = Path("/dev/shm")  # noqa: S108  looked at, not written to


def check_space(folder: Path) -> None:
    """Check that a run can write to a folder; Ray would try again and again, each time with another message.

    Raises:
        StartError: how much is free there, how much is needed, and the way out.
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
    """Warning where shared memory is full or missing; empty where there is room.

    Nothing of Darkroom's own lies there, and Ray evades to the folder of the run.
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
