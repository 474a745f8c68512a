"""Names of the torchvision models that are served, and of their weights, read from torchvision's source.

Importing torchvision takes seconds, most of them for torch; checking a configuration should not take that long.
"""

import ast
import difflib
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pipeline.model.function_name import function_fault
from pipeline.model.source_kind import SourceKind, source_kind

_WEIGHTS_CLASS_SUFFIX: Final = "_Weights"

_SERVED_FOLDERS: Final = ("", "detection", "segmentation")
"""Folders of `torchvision/models` with the models that are served: classifiers, detectors, segmentation models."""

_OTHER_FOLDERS: Final = {
    "video": "a video model",
    "optical_flow": "a model of optical flow",
    "quantization": "quantized",
}
"""Folders with other models, and what these are."""


def is_path(weights: str) -> bool:
    """Return whether weights are the path of a file: names of torchvision's weights have no dot and no slash."""
    return "." in weights or "/" in weights


@cache
def weights_of_models() -> Mapping[str, tuple[str, ...]]:
    """Return the names of every model's weights, by model; empty if torchvision's source cannot be found or read."""
    models = dict[str, str]()  # model -> class of its weights
    weights = dict[str, tuple[str, ...]]()  # class -> names of weights
    for tree in (tree for folder in _SERVED_FOLDERS for tree in _trees(folder)):
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and (name := _registered_as(node)):
                models[name] = _weights_class(node)
            elif isinstance(node, ast.ClassDef) and node.name.endswith(_WEIGHTS_CLASS_SUFFIX):
                weights[node.name] = tuple(_members(node))
    return {name: weights.get(of, ()) for name, of in sorted(models.items())}


def names_fault(model: str, weights: str) -> tuple[str, str] | None:
    """Find a wrong name of model or weights; return its key and a sentence, or None if no fault is known."""
    kind = source_kind(model)
    if kind is SourceKind.TIMM and not is_path(weights):
        return "weights", no_path(weights, model)
    if kind is SourceKind.FUNCTION:
        fault = function_fault(model)
        return ("model", fault) if fault else None
    known = weights_of_models()
    if not known or kind is not SourceKind.TORCHVISION:
        return None
    if model not in known:
        return "model", no_such_model(model, known)
    if not is_path(weights) and known[model] and weights not in known[model]:
        return "weights", no_such_weights(weights, model, known[model])
    return None


def no_such_model(model: str, names: Collection[str]) -> str:
    """Describe an unknown model, with the models that may be meant."""
    if other := _other_models().get(model):
        return f"{model} is {other}; those of torchvision's that are served classify, detect or segment images"
    nearest = difflib.get_close_matches(model.lower(), names, n=3)
    means = f"did you mean {' or '.join(nearest)}?" if nearest else f"torchvision has {', '.join(names)}"
    return f"{model} is not a model of torchvision; {means}"


def no_such_weights(weights: str, model: str, names: Collection[str]) -> str:
    """Describe unknown weights, with the weights that the model has."""
    return f"{model} has no weights {weights}; write {' or '.join(names)}, or the path of a file, e.g. ./weights.pth"


def no_path(weights: str, model: str) -> str:
    """Describe weights by name for a model whose weights are always those of a file."""
    return f"{weights} is a name of torchvision's; for {model} write the path of a file, or a URL with #sha256=..."


@cache
def _other_models() -> Mapping[str, str]:
    """Return what the models are that are not served, by name."""
    nodes = ((node, kind) for folder, kind in _OTHER_FOLDERS.items() for tree in _trees(folder) for node in tree.body)
    return {name: kind for node, kind in nodes if isinstance(node, ast.FunctionDef) and (name := _registered_as(node))}


def _trees(folder: str) -> Iterator[ast.Module]:
    """Yield the parsed modules of one of the folders in which torchvision defines its models."""
    found = find_spec("torchvision")  # imports nothing
    for place in (found.submodule_search_locations if found else None) or ():
        for path in sorted(Path(place, "models", folder).glob("*.py")):
            try:
                yield ast.parse(path.read_bytes())
            except (OSError, SyntaxError):
                continue


def _registered_as(function: ast.FunctionDef) -> str | None:
    """Return the name under which a model builder is registered, or None if the function is not a builder."""
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "register_model":
            given = [*decorator.args, *(keyword.value for keyword in decorator.keywords if keyword.arg == "name")]
            named = [argument.value for argument in given if isinstance(argument, ast.Constant)]
            return str(named[0]) if named else function.name
    return None


def _weights_class(function: ast.FunctionDef) -> str:
    """Return the class of a builder's weights, from the annotation of its parameter; empty if there is none."""
    arguments = [*function.args.args, *function.args.kwonlyargs]
    annotated = (each.annotation for each in arguments if each.arg == "weights" and each.annotation)
    names = (node.id for annotation in annotated for node in ast.walk(annotation) if isinstance(node, ast.Name))
    return next((name for name in names if name.endswith(_WEIGHTS_CLASS_SUFFIX)), "")


def _members(weights: ast.ClassDef) -> Iterator[str]:
    for node in weights.body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
