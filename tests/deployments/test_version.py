"""Tests of the versions of packages, with and without their metadata."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from deployments.version import UNKNOWN_VERSION, version_of
from harness.repository import ROOT
from tests.support.typed import typed
from tests.test_imports import imports


@pytest.fixture
def uninstalled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the package metadata, as in a source tree that was copied and not installed."""

    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("deployments.version.version", missing)
    version_of.cache_clear()
    yield
    version_of.cache_clear()


def test_an_installed_package_has_the_version_of_its_metadata() -> None:
    assert version_of("darkroom") == version("darkroom")
    assert version_of("ray") == version("ray")


@pytest.mark.usefixtures("uninstalled")
def test_a_source_tree_has_the_version_of_its_pyproject() -> None:
    assert f'version = "{version_of("darkroom")}"' in (ROOT / "pyproject.toml").read_text()
    assert typed("--version").output == f"darkroom {version_of('darkroom')}\n"


@pytest.mark.usefixtures("uninstalled")
@pytest.mark.parametrize(
    "text", [None, "[project]\nname = 'other'\nversion = '2'", "[project]\nname = 'darkroom'", "[", ""], ids=str
)
def test_what_names_no_version_is_unknown(text: str | None, tmp_path: Path) -> None:
    """A pyproject.toml that is missing, foreign, broken or without a version gives an unknown version and no error."""
    path = tmp_path / "pyproject.toml"
    if text is not None:
        path.write_text(text)
    assert version_of("darkroom", path) == UNKNOWN_VERSION
    assert version_of("no-such-package", ROOT / "pyproject.toml") == UNKNOWN_VERSION


@pytest.mark.parametrize("folder", ["commands", "deployments", "pipeline", "tuning"])
def test_nothing_else_needs_the_metadata_of_darkroom(folder: str) -> None:
    """Only version.py reads package metadata; elsewhere a start or an answer would fail without it."""
    for path in (ROOT / folder).rglob("*.py"):
        assert path.name == "version.py" or "importlib.metadata" not in imports(path), path.name
