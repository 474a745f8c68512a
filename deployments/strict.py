"""Every fault in a serve_config.yaml, also in the parts that are Serve's own: Serve ignores most unknown keys.

Loads Ray's models, which takes a second or two; `faults.py` knows Darkroom's own part without them.
"""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from ray.serve.schema import ServeDeploySchema

from deployments.faults import UNKNOWN, fault_line, own_faults, unknown_key

_OWN = ("args", "user_config")  # Darkroom's, whose own models are strict


def all_faults(document: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """All that is wrong with a configuration, a line a fault.

    Args:
        document: of the file, as `read_document` gives it.
        environment: of the service; it may hold keys.
    """
    faults = [*_unknown_keys(document, ServeDeploySchema), *_refused(document, ServeDeploySchema)]
    return [*dict.fromkeys(faults), *own_faults(document, environment)]


def _unknown_keys(document: Mapping[str, Any], model: type[BaseModel], path: str = "") -> Iterator[str]:
    """The keys that are none of Serve's, at every level; and what of Serve's it checks only later."""
    for key, value in document.items():
        field = model.model_fields.get(key)
        if field is None:
            yield f"{path}{key}: {unknown_key(str(key), model.model_fields)}"
        elif key not in _OWN and (inner := _model_in(field.annotation)):
            for place, item in _items(f"{path}{key}", value):
                if isinstance(item, dict):
                    yield from _unknown_keys(item, inner, f"{place}.")
                    yield from _refused(item, inner, place)
                elif isinstance(value, list):
                    yield f"{place}: {item!r} is no mapping of keys to values"


def _items(path: str, value: Any) -> list[tuple[str, Any]]:
    """A value, or those in a list, each with its path."""
    if isinstance(value, list):
        return [(f"{path}.{number}", item) for number, item in enumerate(value)]
    return [(path, value)]


def _refused(document: Mapping[str, Any], model: type[BaseModel], path: str = "") -> list[str]:
    """What Serve refuses by itself, but for unknown keys, of which it knows few."""
    try:
        model.model_validate(document)
    except ValidationError as error:
        return [fault_line(fault, path) for fault in error.errors() if fault["type"] != UNKNOWN]
    except AttributeError:  # Serve's own checks stumble over what is no mapping, which has been told
        return []
    return []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field takes, alone, in a list or among others."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
