"""Tests of unique names: no two files or classes in different folders have the same name."""

import ast
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from harness.repository import ROOT

GIVEN: Final = frozenset({"__init__.py", "__main__.py", "conftest.py"})
"""Names of files that Python and pytest give; each folder may have its own."""


def test_files_have_names_of_their_own() -> None:
    """Every file has a unique name. A test is named for its subject, with more words if that is not unique."""
    named = defaultdict(set)
    for path in _files():
        if path.name not in GIVEN:
            named[path.name].add(str(path))
    assert {name: paths for name, paths in named.items() if len(paths) > 1} == {}


def test_classes_have_names_of_their_own() -> None:
    """Every public class has a unique name; a class with an underscore belongs to its file."""
    named = defaultdict(set)
    for path in _files():
        for name in _classes(ROOT / path):
            named[name].add(str(path))
    assert {name: paths for name, paths in named.items() if len(paths) > 1} == {}


def _files() -> Iterator[Path]:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    return (Path(name) for name in listed.stdout.splitlines() if (ROOT / name).exists())


def _classes(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return (node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))
