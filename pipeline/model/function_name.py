"""Finds a function of the user's own by its name, without importing its module: a check runs no code of the user."""

import ast
import difflib
import sys
from importlib.machinery import PathFinder
from pathlib import Path


def function_fault(model: str) -> str | None:
    """Return a sentence if the function is not in the working directory or on this process's path; else None.

    A function is only looked for in modules of Python source that define all their names by themselves.

    Args:
        model: "my_package.my_module:build".
    """
    module, _, attribute = model.partition(":")
    path, places = None, [str(Path.cwd()), *sys.path]
    for name in module.split("."):
        found = PathFinder.find_spec(name, places)
        if found is None:
            elsewhere = ", on PYTHONPATH or among the installed packages" if len(places) > 1 else ""
            return f"{model}: there is no module {name} in {places[0] if places else path}{elsewhere}"
        path, places = found.origin, [*(found.submodule_search_locations or ())]
    return _fault_in(Path(path), attribute.partition(".")[0]) if path and path.endswith(".py") else None


def _fault_in(path: Path, name: str) -> str | None:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        return f"{path}:{error.lineno} is not Python: {error.msg}"
    defined = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
        elif isinstance(node, ast.alias):
            defined.add((node.asname or node.name).partition(".")[0])
    if name in defined or "*" in defined or "__getattr__" in defined:
        return None
    nearest = difflib.get_close_matches(name, defined, n=1)
    return f"{path} has no {name}{f'; did you mean {nearest[0]}?' if nearest else ''}"
