"""Base of all settings: strict types, no unknown keys, and the new name of a renamed setting in its error."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

MAX_SETTING = 1 << 53
"""The largest number of any setting: a larger one is a slip, and overflows somewhere."""

RENAMED_SETTING = "renamed_setting"
"""Type of pydantic's error for an old name of a setting."""


class StrictSettings(BaseModel):
    """Base of all settings: immutable, with declared types, and without unknown keys.

    Types are strict, since pydantic would otherwise take `yes` for 1 and the text "8" for 8. Numbers are finite. Fields
    that are tuples need `strict=False`, as YAML has lists; the types of their items are checked all the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    renamed: ClassVar[Mapping[str, str]] = {}  # old name of a setting -> new name

    @field_validator("*", mode="before")
    @classmethod
    def _is_of_a_usual_size(cls, value: object) -> object:
        if isinstance(value, int | float) and MAX_SETTING < abs(value) < math.inf:
            raise ValueError(f"a number in the settings is at most {MAX_SETTING}; write a smaller one")
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _names_the_new_setting(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Name the new setting in the error about an old one; errors about other unknown keys stay as they are."""
        try:
            return handler(values)
        except ValidationError as error:
            faults = error.errors()
            if not any(fault["loc"] == (old,) for fault in faults for old in cls.renamed):
                raise
            raise ValidationError.from_exception_data(
                error.title, [cls._with_new_name(fault) for fault in faults]
            ) from None

    @classmethod
    def _with_new_name(cls, fault: ErrorDetails) -> InitErrorDetails:
        """Copy a fault for a new error; the fault of an old name tells the new one."""
        details: InitErrorDetails = {"type": fault["type"], "loc": fault["loc"], "input": fault["input"]}
        if "ctx" in fault:
            details["ctx"] = fault["ctx"]
        if new := cls.renamed.get(str(fault["loc"][0]) if fault["loc"] else ""):
            details["type"] = PydanticCustomError(
                RENAMED_SETTING, "this setting is called {new} now; write {new}", {"new": new}
            )
        return details
