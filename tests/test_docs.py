"""Tests of README.md and docs/: links, paths and commands exist; settings and errors are those of the code."""

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import BaseModel
from ray.serve._private.config import DeploymentConfig
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema
from typer.main import get_command

from commands.main import app
from commands.settings import unit_of, written
from deployments.http.responses import described
from deployments.http.statuses import status_of
from deployments.live_config import LiveConfig
from deployments.service_config import ServiceConfig
from harness.local_service import shipped_config
from harness.repository import ROOT
from pipeline.config import PipelineConfig
from pipeline.errors import DarkroomError
from tests.support.sizes import hot_path

PAGES: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
OF_NO_REQUEST: Final = {"urn:darkroom:unreadable-file", "urn:darkroom:invalid-model", "urn:darkroom:engine-stalled"}
"""Errors of `darkroom predict`, of a start and of the health check."""


def _text(page: Path) -> str:
    return page.read_text("utf-8")


def _prose(page: Path) -> str:
    """Return the page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", _text(page), flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as repository hosts make them."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    """Every link to a file or a heading has a target; links to other sites are not followed."""
    links = re.findall(r"\]\(([^)\s]+)\)", _prose(page))
    inner = [link for link in links if not re.match(r"https?:|mailto:", link)]
    assert links
    assert [link for link in inner if not _leads_somewhere(page, link)] == []


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.is_file() and (not anchor or (target.suffix == ".md" and anchor in _anchors(target)))


def test_broken_links_are_found() -> None:
    """A link without a target is found, so the test above can fail."""
    readme = ROOT / "README.md"
    assert not _leads_somewhere(readme, "docs/nowhere.md")
    assert not _leads_somewhere(readme, "docs/configuration.md#nowhere")
    assert _leads_somewhere(readme, "docs/configuration.md#model-and-weights")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_in_code_exists(page: Path) -> None:
    """Every path in code style, such as `pipeline/engine.py`, exists."""
    folders = "benchmarks|commands|deployments|docs|examples|harness|pipeline|tests|tuning"
    paths = re.findall(rf"`((?:{folders})/[\w./-]*)`", _prose(page))
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_hot_path_exists_and_is_short() -> None:
    """At most 14 files hand an image on, and all of them exist."""
    hot, called = hot_path()
    assert 0 < len(hot) <= 14
    assert [path for path in hot | called if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists(page: Path) -> None:
    """Every named make target, Python module, test path and darkroom command exists."""
    text = _text(page)
    targets = set(re.findall(r"^([a-z-]+):", _text(ROOT / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)(?=[`\n ])", _code(text))) <= targets
    for module in re.findall(r"python -m ((?:benchmarks|deployments|harness|tests)[\w.]*)", text):
        assert importlib.util.find_spec(module), module
    for path in re.findall(r"pytest (?:-s )?(tests/[\w/.]*)", text):
        assert (ROOT / path).exists(), path
    assert set(re.findall(r"\bdarkroom ([a-z]+)\b", _code(text))) <= set(get_command(app).commands)  # type: ignore[attr-defined]


def test_examples_in_python_import_what_exists() -> None:
    """Examples in Python compile and their imports exist; tests/end_to_end/test_examples.py runs one of them."""
    examples = [code for page in PAGES for code in re.findall(r"^```python\n(.*?)^```$", _text(page), re.M | re.S)]
    assert examples
    for code in examples:
        compile(code, "example", "exec")
        exec("\n".join(re.findall(r"^(?:import|from) .*$", code, re.MULTILINE)), {})  # noqa: S102 - only imports


def _code(text: str) -> str:
    return "\n".join(re.findall(r"^```.*?^```$|`[^`\n]+`", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize(
    ("heading", "model"), [("args", ServiceConfig), ("args.pipeline", PipelineConfig), ("user_config", LiveConfig)]
)
def test_the_reference_has_exactly_the_settings_that_exist(heading: str, model: type[BaseModel]) -> None:
    """The reference has exactly the existing settings, in their order, with default and unit."""
    section = _text(ROOT / "docs/configuration.md").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in row] for row in re.findall(r"^\| `(\w+)` \|([^|]*)\|([^|]*)\|", section, re.M)]
    assert rows == list(_reference(model))


def _reference(model: type[BaseModel]) -> Iterator[list[str]]:
    for key, field in model.model_fields.items():
        default: Any = field.default
        if not isinstance(default, BaseModel):
            yield [key, written(default), unit_of(key)]


def test_settings_of_serve_are_listed_as_shipped() -> None:
    """The values under "shipped" are those of serve_config.yaml, or Serve's own defaults of what it leaves out."""
    section = _text(ROOT / "docs/configuration.md").split("\n## Ray Serve's settings\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", section, re.M)
    listed = {
        name.strip("`"): value
        for names, values in rows
        for name, value in zip(names.split(", "), values.split(", "), strict=True)
    }
    assert len(listed) > 10
    assert listed == {name: _shipped(name) for name in listed}


def _shipped(name: str) -> str:
    document = shipped_config()
    (application,) = document["applications"]
    (deployment,) = application["deployments"]
    defaults = {**DeploymentConfig().model_dump(), "autoscaling_config": AutoscalingConfig().model_dump()}
    for written_in in (document, application, deployment, defaults):
        with suppress(KeyError):
            return str(reduce(getitem, name.split("."), written_in)).removesuffix(".0")
    assert name in ServeDeploySchema.model_fields
    return "not set"


def test_the_reference_has_exactly_the_errors_that_clients_get() -> None:
    """The reference has exactly the errors that clients can get, each with its status."""
    rows = dict(re.findall(r"^\| `(urn:darkroom:[\w-]+)` \| (\d+) \|", _text(ROOT / "docs/http-api.md"), re.M))
    errors = {described(error(""))["type"]: str(status_of(error(""))) for error in _leaves(DarkroomError)}
    assert rows == {urn: status for urn, status in errors.items() if urn not in OF_NO_REQUEST}
    assert errors.keys() >= OF_NO_REQUEST


def _leaves(kind: type[DarkroomError]) -> Iterator[type[DarkroomError]]:
    below = [kind for kind in kind.__subclasses__() if kind.__module__.split(".")[0] in ("pipeline", "deployments")]
    if not below:
        yield kind
    for each in below:
        yield from _leaves(each)


def test_the_site_has_every_page() -> None:
    """The site's navigation has every page, and no page that does not exist."""
    navigation = tomllib.loads(_text(ROOT / "docs/zensical.toml"))["project"]["nav"]
    listed = set(_pages(navigation))
    assert listed == {str(page.relative_to(ROOT)) for page in PAGES}


def _pages(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from _pages(inner)


def test_the_settings_that_matter_exist() -> None:
    """The short table of README.md names only existing settings."""
    section = _text(ROOT / "README.md").split("## Settings that matter")[1].split("\n## ")[0]
    names = [name for cell in re.findall(r"^\| (`[^|]+) \|", section, re.M) for name in re.findall(r"`(\w+)`", cell)]
    known = {key for model in (ServiceConfig, PipelineConfig, LiveConfig) for key in model.model_fields}
    assert names
    assert set(names) - known == {"max_replicas"}  # a setting of Ray Serve
