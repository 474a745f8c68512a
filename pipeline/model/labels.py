"""Reads the names of a model's classes."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import InvalidModel


def read_labels(path: str | None, classes: int, known: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of all classes: from a text file, one a line, else those that are known, else numbers.

    A byte order mark, Windows line endings and empty lines at the end are ignored. Two classes may have the same name,
    as in ImageNet.

    Args:
        path: path of the file, or None.
        classes: number of the model's classes.
        known: names that are used if there is one for each class.

    Raises:
        InvalidModel: the file cannot be read, or does not have as many names as the model has classes.
    """
    if path is None:
        return tuple(known) if len(known) == classes else tuple(f"class {index}" for index in range(classes))
    labels = labels_in(path)
    if len(labels) != classes:
        raise InvalidModel(f"labels: {path} has {len(labels)} lines; the model has {classes} classes")
    return labels


def labels_in(path: str) -> tuple[str, ...]:
    """Return the names in a text file, one a line, as `read_labels` reads them.

    Raises:
        InvalidModel: the file cannot be read.
    """
    try:
        labels = Path(path).read_text("utf-8-sig").rstrip().split("\n")
    except OSError as error:
        raise InvalidModel(f"labels: {path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise InvalidModel(f"labels: {path} cannot be read: {error}; save it in UTF-8") from error
    return tuple(label.strip() for label in labels) if labels != [""] else ()
