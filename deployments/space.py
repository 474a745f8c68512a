"""Room on the file systems that a run writes to."""

import os
from pathlib import Path
from typing import Final

from deployments.endpoint import StartError

NEEDED_BYTES: Final = 64 << 20
"""What sockets, settings and logs of a run take within its first hours, several times over."""

NEEDED_FILES: Final = 1000


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
    if free < NEEDED_BYTES:
        raise StartError(
            f"{folder} has {free >> 20} MiB free, and a run needs {NEEDED_BYTES >> 20} MiB there for its sockets and "
            f"logs: {_WAY_OUT}"
        )
    if about.f_files > 0 and about.f_favail < NEEDED_FILES:  # some file systems do not count files
        raise StartError(
            f"{folder} has room for {about.f_favail} more files, and a run needs {NEEDED_FILES}: {_WAY_OUT}"
        )


_WAY_OUT: Final = "delete what is not needed there, such as logs of earlier runs"
