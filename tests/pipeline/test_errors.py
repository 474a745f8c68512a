"""Every error of Darkroom's own."""

import inspect
import pickle
import re

import pytest

from pipeline import errors

CLASSES: dict[str, type[Exception]] = dict(inspect.getmembers(errors, inspect.isclass))


def drawn() -> dict[str, str]:
    """The tree in the module's docstring: each class, and the one it hangs on."""
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for match in re.finditer(r"(?m)^( {4}[│├└─ ]*)([A-Z]\w+)", errors.__doc__ or ""):
        depth, name = len(match[1]), match[2]
        above = [(column, parent) for column, parent in above if column < depth]
        parents[name] = above[-1][1] if above else "Exception"
        above.append((depth, name))
    return parents


def test_the_tree_is_as_it_is_drawn() -> None:
    """Neither a class that is not drawn, nor one that hangs elsewhere."""
    assert drawn() == {name: cls.__bases__[0].__name__ for name, cls in CLASSES.items()}


@pytest.mark.parametrize("name", CLASSES)
def test_errors_cross_the_border_between_processes(name: str) -> None:
    """With their class and their message."""
    error = pickle.loads(pickle.dumps(CLASSES[name]("torn at byte 7")))  # noqa: S301 - pickled in the same line
    assert type(error) is CLASSES[name]
    assert str(error) == "torn at byte 7"
