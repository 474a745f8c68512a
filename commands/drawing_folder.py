"""The folder of drawn pictures, and the names of the files in it."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Final

from commands.files import NothingToDo

_SUFFIX: Final = ".jpg"
_MAX_STEM_BYTES: Final = 200


def prepare_folder(folder: Path) -> None:
    """Create the folder of the copies. It has to be empty, so that no file is ever overwritten.

    Raises:
        NothingToDo: the folder has files, or cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise NothingToDo(f"{folder} is not empty; give --draw a new folder, or remove what is in it")
    except OSError as error:
        raise NothingToDo(f"cannot write to {folder}: {error.strerror}") from error


def names_of_copies(files: Sequence[str]) -> dict[str, str]:
    """Return the name of each file's copy: the file's own with the suffix .jpg, and a number if it is taken."""
    names, taken = dict[str, str](), set[str]()
    for file in files:
        stem = os.fsdecode(os.fsencode(PurePath(file).stem)[:_MAX_STEM_BYTES])
        numbered = (f"{stem}{f'-{number}' if number > 1 else ''}{_SUFFIX}" for number in range(1, len(files) + 2))
        name = next(name for name in numbered if name.lower() not in taken)
        taken.add(name.lower())
        names[file] = name
    return names
