"""All faults in a serve_config.yaml, including Serve's own settings: Serve ignores most unknown keys.

Imports Ray's models, which takes a second or two; `own_faults.py` checks Darkroom's own settings without them.
"""

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ray.runtime_env import RuntimeEnv
from ray.serve.schema import ServeDeploySchema

from deployments.checks.own_faults import UNKNOWN_KEY, fault_line, in_yaml, own_faults, unknown_key
from pipeline.strict_settings import MAX_SETTING

_DARKROOM_KEYS: Final = ("args", "user_config")  # keys that Darkroom's own strict models check

_NUMBER_TYPES: Final = {int, float}


def all_faults(document: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """List all faults in a configuration, one line each.

    Args:
        document: content of the file, as `read_document` returns it.
        environment: environment variables of the service; they may hold API keys.
    """
    own = own_faults(document, environment)
    own_paths = {_path(fault) for fault in own}
    serves = dict[str, str]()  # by path: the first fault of a path is the clearest
    for fault in (*_unknown_keys(document, ServeDeploySchema), *_refused(document, ServeDeploySchema)):
        serves.setdefault(_path(fault), fault)
    return [*(fault for path, fault in serves.items() if path not in own_paths), *own]


def _path(fault: str) -> str:
    return fault.partition(": ")[0]


def _unknown_keys(document: Mapping[str, Any], model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Yield keys unknown to Serve, at every level, and faults in nested settings that Serve checks only later."""
    for key, value in document.items():
        field = model.model_fields.get(key)
        if field is None:
            yield f"{path}{key}: {unknown_key(str(key), model.model_fields)}"
        elif key == "runtime_env" and isinstance(value, dict):
            unknown = (inner for inner in value if inner not in RuntimeEnv.known_fields)
            yield from (f"{path}{key}.{inner}: {unknown_key(str(inner), RuntimeEnv.known_fields)}" for inner in unknown)
        elif key not in _DARKROOM_KEYS and (says := _mistyped(value, field.annotation)):
            yield f"{path}{key}: {says}"
        elif key not in _DARKROOM_KEYS and (inner := _model_in(field.annotation)):
            for place, item in _items(f"{path}{key}", value):
                if isinstance(item, dict):
                    yield from _unknown_keys(item, inner, f"{place}.")
                    yield from _refused(item, inner, place)
                elif isinstance(value, list):
                    yield f"{place}: {item!r} is no mapping of keys to values"


def _items(path: str, value: Any) -> list[tuple[str, Any]]:
    """List a value, or the items of a list, each with its path."""
    if isinstance(value, list):
        return [(f"{path}.{number}", item) for number, item in enumerate(value)]
    return [(path, value)]


def _refused(document: Mapping[str, Any], model: type[BaseModel], path: str = "") -> list[str]:
    """List the faults that Serve's own models find, without those about unknown keys."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.model_validate(document)
        except ValidationError as error:
            return [fault_line(fault, path) for fault in error.errors() if fault["type"] != UNKNOWN_KEY]
        except AttributeError as error:  # a policy without this function, or a value that is no mapping; listed already
            return [f"{path}.policy_function: {error}"] if path.endswith(".policy") else []
        except (TypeError, ImportError):  # no mapping either, or a policy that only the replicas' machines may have
            return []
        except UnicodeError:
            return [f"{path}: a text in it holds half a character (\\ud800 to \\udfff); write whole ones"]
    future = (str(each.message) for each in caught if issubclass(each.category, FutureWarning))
    return [f"{path}: {' '.join(says.split())}" if path else says for says in future]


def _mistyped(value: Any, annotation: Any) -> str | None:
    """Describe a wrong type of a single value that pydantic would convert silently; None if the type is right."""
    kinds = set(_kinds(annotation))
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is no finite number; write one"
    if isinstance(value, int | float) and abs(value) > MAX_SETTING:
        return f"{in_yaml(value)} is too large; write a number of the size of the usual one"
    if isinstance(value, bytes):
        return "it is binary; write text or a number"
    if isinstance(value, bool) and kinds & _NUMBER_TYPES and bool not in kinds:
        return f"{in_yaml(value)} is no number (YAML reads yes, no, on and off so as well); write a number"
    if isinstance(value, str) and kinds & _NUMBER_TYPES and not any(issubclass(kind, str) for kind in kinds):
        return f"{in_yaml(value)} is text; write a number, without quotes"
    if isinstance(value, int | float) and not isinstance(value, bool) and bool in kinds and not kinds & _NUMBER_TYPES:
        return f"{value} is neither true nor false; write one of them"
    if isinstance(value, float) and int in kinds and float not in kinds:
        return f"{value} is no whole number; write one, without a dot"
    return None


def _kinds(annotation: Any) -> Iterator[type]:
    """Yield the classes that an annotation allows; not the classes of items in a list or mapping."""
    if isinstance(annotation, type):
        yield annotation
    elif get_origin(annotation) is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif not isinstance(get_origin(annotation), type) or get_origin(annotation).__name__ == "UnionType":
        for inner in get_args(annotation):
            yield from _kinds(inner)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Find the model that an annotation allows, alone, in a list or in a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
