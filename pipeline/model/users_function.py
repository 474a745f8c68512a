"""Loads the model that a function of the user's own returns: `model: "my_package.my_module:build"`."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from torch import nn

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model.chosen_head import classifiers_head
from pipeline.model.resize_to_fit import Fit
from pipeline.model.served import Head, Preprocess, ServedModel
from pipeline.users_code import in_place, place_of_function

_RETURNS = "it must return a ServedModel, or (module, transform), or (module, transform, labels)"


def users_model(config: PipelineConfig) -> ServedModel:
    """Import and call the user's function.

    Raises:
        InvalidModel: it cannot be imported, raises, or returns something else; the user's own error is the cause.
    """
    module_name, _, attribute = config.model.partition(":")
    function = _attribute_of(_imported(module_name, config.model), attribute, config.model)
    where = f"{attribute} (in {place_of_function(function) or module_name})"
    made = _called(function, config.model_args, where)
    if isinstance(made, ServedModel):
        _check_parts(made.module, made.transform, where)
        if not isinstance(made.head, Head):
            raise InvalidModel(f"model: {where} returns a ServedModel whose head is {_kind(made.head)}, not a Head")
        return made
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        raise InvalidModel(f"model: {where} returns {_kind(made)}; {_RETURNS}")
    module, transform, *labels = made
    _check_parts(module, transform, where)
    head = classifiers_head(config, _labels(labels[0], where) if labels else ())
    return ServedModel(module, transform, head, weights_from=config.model, transform_from=config.model)


def _imported(module_name: str, model: str) -> ModuleType:
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)  # the decoder processes get this path too
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise InvalidModel(
                f"model: {model} cannot be imported: there is no module {error.name} in {folder}, on PYTHONPATH or "
                "among the installed packages"
            ) from None
        raise InvalidModel(f"model: importing {module_name} fails: {in_place(error)}") from error
    except SyntaxError as error:
        place = f" (in {error.filename}:{error.lineno})" if error.filename else ""
        raise InvalidModel(f"model: importing {module_name} fails: SyntaxError: {error.msg}{place}") from error
    except (Exception, SystemExit) as error:
        raise InvalidModel(f"model: importing {module_name} fails: {in_place(error)}") from error


def _attribute_of(module: ModuleType, attribute: str, model: str) -> Callable[..., Any]:
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise InvalidModel(f"model: {model} cannot be found: {module.__file__ or module.__name__} has no {name}")
        found = getattr(found, name)
    if not callable(found):
        raise InvalidModel(f"model: {model} is {_kind(found)}, not a function (in {module.__file__})")
    return found  # type: ignore[no-any-return]


def _called(function: Callable[..., Any], args: Mapping[str, Any], where: str) -> Any:
    try:
        return function(**args)
    except TypeError as error:
        if error.__traceback__ and error.__traceback__.tb_next is None:  # nothing of the function has run
            raise InvalidModel(f"model_args: {[*args]} do not fit {where}: {error}") from error
        raise InvalidModel(f"model: {where} fails: {in_place(error)}") from error
    except (Exception, SystemExit) as error:
        raise InvalidModel(f"model: {where} fails: {in_place(error)}") from error


def _check_parts(module: Any, transform: Any, where: str) -> None:
    if not isinstance(module, nn.Module):
        hint = "; call it" if isinstance(module, type) and issubclass(module, nn.Module) else ""
        raise InvalidModel(f"model: {where} returns {_kind(module)} as the module, not an nn.Module{hint}")
    if not isinstance(transform, Preprocess | Fit) and not callable(transform):
        raise InvalidModel(f"model: {where} returns {_kind(transform)} as the transform, not a function of an image")


def _labels(labels: Any, where: str) -> tuple[str, ...]:
    if isinstance(labels, Mapping) and all(isinstance(index, int) for index in labels):  # {0: "cat", 1: "dog"}
        labels = [labels.get(index) for index in range(len(labels))]
    if isinstance(labels, str) or not isinstance(labels, Sequence) or not all(isinstance(each, str) for each in labels):
        raise InvalidModel(f"model: {where} returns {_kind(labels)} as the labels, not a list of names")
    return tuple(labels)


def _kind(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"
