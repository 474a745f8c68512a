"""Darkroom's settings with their values, units, defaults and meanings."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

_UNITS: Final = {
    "_bytes_per_s": "bytes/s",
    "_s": "s",
    "_bytes": "bytes",
    "_bytes_in_flight": "bytes",
    "_pixels": "pixels",
    "_px": "px",
    "batch_size": "images",
    "batch_sizes": "images",
    "slots": "images",
    "_images_per_request": "images",
    "top_k": "classes",
    "_ongoing_requests": "requests",
    "replicas_per_gpu": "replicas",
    "_cpus": "CPUs",
    "gpu_share": "GPUs",
    "workers": "processes",
    "concurrent_batches": "batches",
}
"""Units by the last part of a setting's name."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of a configuration."""

    key: str
    value: Any
    default: Any
    unit: str  # empty if the value has none
    meaning: str

    @property
    def is_default(self) -> bool:
        """True if the setting has its default value."""
        return bool(self.value == self.default)


def explained(model: BaseModel) -> Iterator[Setting]:
    """List the settings of a pydantic model in order, without those that are models themselves."""
    for key, field in type(model).model_fields.items():
        value = getattr(model, key)
        if not isinstance(value, BaseModel):
            yield Setting(key, value, field.default, unit_of(key), field.description or "")


def unit_of(key: str) -> str:
    """Derive the unit of a setting from its name; empty if it has none."""
    return next((unit for end, unit in _UNITS.items() if key.endswith(end)), "")


def written(value: Any) -> str:
    """Format a value as in YAML; a dash if the machine, the weights or the cluster decide."""
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return f"[{', '.join(map(written, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
