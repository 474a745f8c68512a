"""Names of a model's classes."""

from pathlib import Path

from pipeline.errors import InvalidModel
from pipeline.torchvision_models import WeightsEnum


def read_labels(path: str | None, classes: int, weights: WeightsEnum | None) -> tuple[str, ...]:
    """The names in a text file, one a line; without a file those of the weights, or numbers.

    A byte order mark, ends of lines as on Windows and empty lines at the end are no part of a name. Two classes may
    have the same name, as in ImageNet.

    Args:
        path: of the file.
        classes: that the model has.
        weights: of torchvision's, whose names are taken where they are as many.

    Raises:
        InvalidModel: the file cannot be read, or does not have as many names as the model has classes.
    """
    if path is None:
        known = tuple(weights.meta["categories"]) if weights else ()
        return known if len(known) == classes else tuple(f"class {index}" for index in range(classes))
    try:
        labels = Path(path).read_text("utf-8-sig").rstrip().split("\n")
    except OSError as error:
        raise InvalidModel(f"labels: {path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise InvalidModel(f"labels: {path} cannot be read: {error}; save it in UTF-8") from error
    labels = [label.strip() for label in labels] if labels != [""] else []
    if len(labels) != classes:
        raise InvalidModel(f"labels: {path} has {len(labels)} lines; the model has {classes} classes")
    return tuple(labels)
