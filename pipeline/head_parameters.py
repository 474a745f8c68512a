"""Parameters that a request may send with its images, such as `top_k`. Does not import torch."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final

Value = int | float | str

_SMALL_NUMBER: Final = re.compile(r"0*([0-9]{1,9})")
"""A number below 10**9; only ASCII digits, unlike Python's `isdecimal`."""

_ANY_NUMBER: Final = re.compile(r"[0-9]+")
_DECIMAL: Final = re.compile(r"-?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,3})?")


def whole_number(text: str) -> int | None:
    """Parse a whole number; 10**9 for one of more than nine digits, None for any other text."""
    if found := _SMALL_NUMBER.fullmatch(text):
        return int(found[1])
    return 10**9 if _ANY_NUMBER.fullmatch(text) else None


class Parameter(ABC):
    """One parameter of a model's head.

    Attributes:
        default: value of a request that does not send the parameter.
        description: a sentence for the description of the service.
    """

    __slots__ = ()
    default: Value
    description: str

    @property
    @abstractmethod
    def allowed(self) -> str:
        """The values, as words that follow "is not"."""

    @property
    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the values, without the default."""

    @abstractmethod
    def parsed(self, text: str) -> Value | None:
        """Return the value that a text from a URL or a form stands for; None if it is not allowed."""

    @abstractmethod
    def allows(self, value: object) -> bool:
        """Return whether a value from a configuration is allowed."""


@dataclass(frozen=True, slots=True)
class WholeNumber(Parameter):
    """A whole number from `lowest`, 0 or more, to `largest`, below 10**9."""

    default: int
    lowest: int
    largest: int
    description: str = ""

    @property
    def allowed(self) -> str:
        """The values, as words that follow "is not"."""
        return f"a whole number from {self.lowest} to {self.largest}"

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the values."""
        return {"type": "integer", "minimum": self.lowest, "maximum": self.largest}

    def parsed(self, text: str) -> int | None:
        """Return the number; leading zeros are allowed."""
        number = whole_number(text)
        return number if self.allows(number) else None

    def allows(self, value: object) -> bool:
        """Return whether a value is a whole number in the range."""
        return isinstance(value, int) and not isinstance(value, bool) and self.lowest <= value <= self.largest


@dataclass(frozen=True, slots=True)
class DecimalNumber(Parameter):
    """A number from `lowest` to `largest`."""

    default: float
    lowest: float
    largest: float
    description: str = ""

    @property
    def allowed(self) -> str:
        """The values, as words that follow "is not"."""
        return f"a number from {self.lowest:g} to {self.largest:g}"

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the values."""
        return {"type": "number", "minimum": self.lowest, "maximum": self.largest}

    def parsed(self, text: str) -> float | None:
        """Return the number, written as in JSON; leading zeros are allowed."""
        number = float(text) if _DECIMAL.fullmatch(text) else None
        return number if self.allows(number) else None

    def allows(self, value: object) -> bool:
        """Return whether a value is a number in the range."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.lowest <= value <= self.largest


@dataclass(frozen=True, slots=True)
class OneOf(Parameter):
    """One of several words."""

    default: str
    choices: tuple[str, ...]
    description: str = ""

    @property
    def allowed(self) -> str:
        """The values, as words that follow "is not"."""
        return " or ".join(self.choices)

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the values."""
        return {"enum": [*self.choices]}

    def parsed(self, text: str) -> str | None:
        """Return the word, written exactly as it is."""
        return text if text in self.choices else None

    def allows(self, value: object) -> bool:
        """Return whether a value is one of the words."""
        return value in self.choices
