"""Image files named on the command line, and their bytes."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import BinaryIO, Final

from pipeline.errors import ImageTooLarge, UnreadableFile

STDIN: Final = "-"

_SUFFIXES: Final = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
}
"""Suffixes of file names, by the formats of `PipelineConfig`."""

_BOM: Final = b"\xef\xbb\xbf"
"""Byte-order mark with which editors of Windows begin a text."""

_MAX_NAMED_FILES: Final = 10
"""Limit on names in a message; the next constant limits the characters of each."""

_MAX_NAME_CHARACTERS: Final = 200


class NothingToDo(Exception):
    """Raised if the arguments name no image; the message says why."""


def listed(paths: Sequence[str], formats: Iterable[str], stdin: BinaryIO) -> list[str]:
    """List the image files of some paths, each once, in the order of the paths.

    A named file is taken with any suffix. From a folder and its subfolders come the files with a suffix of one of the
    formats, sorted. Names that begin with a dot are left out there, and links to folders are not followed: they may
    form a cycle.

    Args:
        paths: files, folders, or `-` for names from `stdin`, one a line.
        formats: names of Pillow's formats.
        stdin: standard input of the process.

    Raises:
        NothingToDo: a path does not exist, or no path has a file.
    """
    if missing := [path for path in paths if path != STDIN and not os.path.lexists(path)]:
        raise NothingToDo(f"no such file or folder: {_listing(missing)}")
    suffixes = tuple(suffix for name in formats for suffix in _SUFFIXES[name])
    files: dict[str, str] = {}
    for path in paths:
        for file in _files_of(path, suffixes, stdin):
            files.setdefault(str(PurePath(file)), file)  # dots and slashes spell the same file in many ways
    if not files:
        raise NothingToDo(_why_none(paths, suffixes))
    return list(files.values())


def read(file: str, max_bytes: int) -> bytes:
    """Read a file.

    Raises:
        UnreadableFile: the file is missing, is a folder or a pipe, or the disk has failed.
        ImageTooLarge: the file has more than `max_bytes`.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # opening a pipe would wait
        with open(descriptor, "rb") as opened:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableFile("it is not a regular file")
            if status.st_size > max_bytes:
                raise ImageTooLarge(f"the image has {status.st_size} bytes; the limit is {max_bytes}")
            return opened.read(max_bytes + 1)  # one more: the file may have grown
    except OSError as error:
        raise UnreadableFile(f"it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UnreadableFile("there is a zero byte in its name; write one name a line") from error


def shown(file: str) -> str:
    """Escape the characters of a name that are not printable."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in file)


def _files_of(path: str, suffixes: tuple[str, ...], stdin: BinaryIO) -> Iterator[str]:
    if path == STDIN:
        return _names(stdin)
    return _in_folder(path, suffixes) if os.path.isdir(path) else iter((path,))


def _names(stdin: BinaryIO) -> Iterator[str]:
    """Read file names from the standard input, one a line, with Unix or Windows line ends.

    Raises:
        NothingToDo: the standard input is closed, or cannot be read.
    """
    try:
        for number, line in enumerate(stdin):
            name = os.fsdecode(line.removeprefix(_BOM) if number == 0 else line).removesuffix("\n")
            if name.endswith("\r") and not os.path.lexists(name):
                name = name.removesuffix("\r")
            if name:
                yield name
    except OSError as error:
        raise NothingToDo(f"cannot read names from the standard input: {error.strerror}") from error


def _listing(paths: Sequence[str]) -> str:
    names = ", ".join(
        shown(path) if len(path) <= _MAX_NAME_CHARACTERS else f"{shown(path[:_MAX_NAME_CHARACTERS])}..."
        for path in paths[:_MAX_NAMED_FILES]
    )
    return names if len(paths) <= _MAX_NAMED_FILES else f"{names} and {len(paths) - _MAX_NAMED_FILES} more"


def _in_folder(folder: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    waiting = [(folder, True)]
    while waiting:
        path, is_folder = waiting.pop()
        entries = _entries(path) if is_folder else None
        if entries is None:  # a file, or an unlistable folder, for which reading will report the error
            yield path
            continue
        wanted = [(n, d) for n, d in entries if not n.startswith(".") and (d or n.lower().endswith(suffixes))]
        waiting += [(os.path.join(path, name), is_folder) for name, is_folder in reversed(wanted)]


def _entries(folder: str) -> list[tuple[str, bool]] | None:
    """List a folder: sorted names, each with whether it is a folder; None if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError:
        return None


def _why_none(paths: Sequence[str], suffixes: tuple[str, ...]) -> str:
    if folders := [path for path in paths if path != STDIN]:
        return f"no file in {_listing(folders)} ends in {', '.join(suffixes)}"
    return "there are no names of files on the standard input"
