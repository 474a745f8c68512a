"""Versions of packages; Darkroom's own also when it runs from a source tree without being installed."""

import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

UNKNOWN_VERSION: Final = "unknown"
"""Result for a package without a known version."""

_OWN_PACKAGE: Final = "darkroom"
_PYPROJECT: Final = Path(__file__).parent.parent / "pyproject.toml"


@cache
def version_of(package: str, pyproject: Path = _PYPROJECT) -> str:
    """Read a package's version from its metadata, or Darkroom's from the source tree, or return `UNKNOWN_VERSION`.

    Args:
        package: name on the package index.
        pyproject: pyproject.toml of the source tree.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return _version_in(pyproject) if package == _OWN_PACKAGE else UNKNOWN_VERSION


def _version_in(pyproject: Path) -> str:
    try:
        project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
        return str(project["version"]) if project["name"] == _OWN_PACKAGE else UNKNOWN_VERSION
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return UNKNOWN_VERSION
