"""Path of a report, checked for writing before anything is measured."""

import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from commands.files import shown
from deployments.local.endpoint import StartError

_SUFFIXES: Final = (".html", ".htm")


def report_path(written: str) -> Path:
    """Check that a report and its picture can be written to a path; return the path.

    Raises:
        StartError: the path cannot be used; the message says why and what to type instead.
    """
    path, name = Path(written), f"cannot write the report to {shown(written)}"
    try:
        if path.is_dir():
            example = shown(str(path / "darkroom-tune.html"))
            raise StartError(f"{name}: it is a folder; give a file, e.g. --report {example}")
        if path.suffix.lower() not in _SUFFIXES:
            raise StartError(f"{name}: the report is an HTML page; give a name that ends in .html")
        for file in (path, path.with_suffix(".png")):
            _try_to_open(file, name)
    except OSError as error:
        raise StartError(f"{name}: {error.strerror or error}; give another name") from error
    return path


def _try_to_open(path: Path, name: str) -> None:
    """Open the file for writing without changing it; if there is none, create another one beside it and remove it.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        folder = path.resolve().parent  # a link may lead elsewhere
        if not folder.is_dir():
            what = f"there is no folder {shown(str(folder))}; make it, or give another name"
            raise StartError(f"{name}: {what}") from None
        with tempfile.TemporaryFile(dir=folder):
            return
    if not stat.S_ISREG(kind):
        what = "its picture" if path.suffix == ".png" else "it"
        raise StartError(
            f"{name}: {what} would go into {shown(str(path))}, which is not a regular file; give another name"
        )
    os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
