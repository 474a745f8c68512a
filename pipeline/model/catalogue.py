"""The names of torchvision's classification models and of their weights, read from its source.

To import it takes seconds, most of them torch's; a check of a configuration should not need them.
"""

import ast
import difflib
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_WEIGHTS_CLASS_SUFFIX = "_Weights"


def is_path(weights: str) -> bool:
    """Whether weights are a file of one's own: no name of torchvision's has a dot or a slash."""
    return "." in weights or "/" in weights


@cache
def weights_of_models() -> Mapping[str, tuple[str, ...]]:
    """The weights' names of every model by its name; empty where torchvision's source is not to be found or read."""
    models = dict[str, str]()  # by name: the class of its weights
    weights = dict[str, tuple[str, ...]]()  # names by class
    for tree in _trees():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and (name := _registered_as(node)):
                models[name] = _weights_class(node)
            elif isinstance(node, ast.ClassDef) and node.name.endswith(_WEIGHTS_CLASS_SUFFIX):
                weights[node.name] = tuple(_members(node))
    return {name: weights.get(of, ()) for name, of in sorted(models.items())}


def names_fault(model: str, weights: str) -> tuple[str, str] | None:
    """Finds a fault in the names of a model and its weights: the key, and a sentence; None where nothing is known."""
    known = weights_of_models()
    if not known:
        return None
    if model not in known:
        return "model", no_such_model(model, known)
    if not is_path(weights) and known[model] and weights not in known[model]:
        return "weights", no_such_weights(weights, model, known[model])
    return None


def no_such_model(model: str, names: Collection[str]) -> str:
    """Says which model may be meant."""
    nearest = difflib.get_close_matches(model.lower(), names, n=3)
    means = f"did you mean {' or '.join(nearest)}?" if nearest else f"torchvision has {', '.join(names)}"
    return f"{model} is no classification model of torchvision's; {means}"


def no_such_weights(weights: str, model: str, names: Collection[str]) -> str:
    """Says which weights there are."""
    return f"{weights} are none of {model}'s; write {' or '.join(names)}, or the path of a file, e.g. ./weights.pth"


def _trees() -> Iterator[ast.Module]:
    """The modules in which torchvision defines its classification models, parsed."""
    found = find_spec("torchvision")  # imports nothing
    for folder in (found.submodule_search_locations if found else None) or ():
        for path in sorted(Path(folder, "models").glob("*.py")):
            try:
                yield ast.parse(path.read_bytes())
            except (OSError, SyntaxError):
                continue


def _registered_as(function: ast.FunctionDef) -> str | None:
    """The name by which a builder is registered: that of the decorator, else its own; None where it is none."""
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "register_model":
            named = [argument.value for argument in decorator.args if isinstance(argument, ast.Constant)]
            return str(named[0]) if named else function.name
    return None


def _weights_class(function: ast.FunctionDef) -> str:
    """The class of its weights, as the annotation of its parameter tells."""
    arguments = [*function.args.args, *function.args.kwonlyargs]
    annotated = (each.annotation for each in arguments if each.arg == "weights" and each.annotation)
    names = (node.id for annotation in annotated for node in ast.walk(annotation) if isinstance(node, ast.Name))
    return next((name for name in names if name.endswith(_WEIGHTS_CLASS_SUFFIX)), "")


def _members(weights: ast.ClassDef) -> Iterator[str]:
    for node in weights.body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
