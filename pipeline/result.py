"""Result of one image, made by a model's head: its JSON, its lines for people and its cells of CSV. No torch here."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson


def as_text(document: Mapping[str, Any]) -> str:
    """Return a document as one line of JSON; arrays of numpy become lists.

    Raises:
        TypeError: the document cannot be written as JSON; the message names the type.
    """
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def label_of(labels: Sequence[str], index: int) -> str:
    """Return the name of a class; its number if it has none."""
    return labels[index] if index < len(labels) else f"class {index}"


class Result(ABC):
    """Result of one image. Every method takes the head's parameters by name.

    A head may also return plain mappings; then a line and a cell are their JSON.

    Attributes:
        takes_long: whether `as_json` takes more than a millisecond, so that a service must call it in a thread.
    """

    __slots__ = ()
    takes_long: ClassVar[bool] = False

    @abstractmethod
    def as_json(self, *args: Any, **parameters: Any) -> Mapping[str, Any]:
        """Return the members of the answer's JSON document, by `Head.schema`; arrays of numpy may be in it."""

    def lines(self, *args: Any, **parameters: Any) -> list[str]:
        """Return lines of text for people, one or more; by default the JSON."""
        return [as_text(self.as_json(*args, **parameters))]

    def cells(self, *args: Any, **parameters: Any) -> list[str]:
        """Return the cells of a row of CSV, one for each of `Head.columns`; by default one with the JSON."""
        return [as_text(self.as_json(*args, **parameters))]
