"""Tests of a model that a function of the user's own returns."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from pipeline import Classify, Embed, PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model.catalogue import names_fault
from pipeline.model.source import load_model
from pipeline.model.source_kind import SourceKind, source_kind
from pipeline.users_code import users_traceback

MODULE = """
import torch
from torch import nn
from pipeline import Preprocess, ServedModel
NOT_CALLABLE = 3
def build(labels=("a", "b", "c")):
    return nn.Flatten(), lambda image: torch.zeros(3), labels
def two(): return nn.Flatten(), lambda image: torch.zeros(3)
def a_class(): return nn.Flatten, print
def no_transform(): return nn.Flatten(), 3, ["a"]
def no_labels(): return nn.Flatten(), print, "abc"
def by_index(): return nn.Flatten(), print, {1: "b", 0: "a"}
def a_module(): return nn.Flatten()
def headless(): return ServedModel(nn.Flatten(), Preprocess(8, 8), None)
def fails():
    return [][7]
def leaves(): raise SystemExit(4)
class Namespace:
    @staticmethod
    def make(): return build()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the working directory, with a module of the user's own."""
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "mine.py").write_text(MODULE)
    (tmp_path / "torn.py").write_text("def build(:\n")
    (tmp_path / "needy.py").write_text("\nimport no_such_package\n")
    (tmp_path / "failing.py").write_text("\n\n1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("my_package", "my_package.mine", "torn", "needy", "failing"):
        sys.modules.pop(name, None)


def loaded(function: str, **settings: Any) -> Any:
    return load_model(PipelineConfig.model_validate({"model": f"my_package.mine:{function}", **settings}))


def test_a_function_of_the_working_directory_is_found() -> None:
    """Its labels become those of the head that the configuration names; without labels classes have numbers."""
    found = loaded("build", model_args={"labels": ["x", "y", "z"]})
    assert isinstance(found.module, nn.Flatten)
    assert found.transform(Image.new("RGB", (1, 1))).shape == (3,)
    assert (type(found.head), found.head.labels) == (Classify, ("x", "y", "z"))
    assert found.weights_from == "my_package.mine:build"
    assert isinstance(loaded("build", head="embed").head, Embed)
    assert loaded("by_index").head.labels == ("a", "b")
    assert loaded("Namespace.make").head.labels == ("a", "b", "c")
    (result,) = loaded("two").head.results({"scores": torch.ones(1, 1), "classes": torch.tensor([[2]])}, [])
    assert result.labels == ("class 2",)


AT = r"\(in .*my_package/mine\.py:\d+\)"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            "no_such:build",
            r"^model: no_such:build cannot be imported: there is no module no_such in /.*, on PYTH",
        ),
        ("my_package.other:build", "there is no module my_package.other in /"),
        ("my_package.mine:bild", r"cannot be found: .*mine\.py has no bild$"),
        ("my_package.mine:NOT_CALLABLE", "is a int, not a function"),
        ("torn:build", r"^model: importing torn fails: SyntaxError: .* \(in .*torn\.py:1\)$"),
        (
            "needy:build",
            r"importing needy fails: ModuleNotFoundError: No module named 'no_such_p.*needy\.py:2",
        ),
        ("failing:build", r"importing failing fails: ZeroDivisionError: division by zero \(in .*failing\.py:3\)$"),
        ("my_package.mine:fails", f"^model: fails {AT} fails: IndexError: list index out of range {AT}$"),
        ("my_package.mine:leaves", f"leaves {AT} fails: SystemExit: 4 {AT}$"),
        (
            "my_package.mine:a_class",
            f"a_class {AT} returns the class Flatten as the module, not an nn.Module; call",
        ),
        ("my_package.mine:no_transform", "returns a int as the transform, not a function of an image"),
        ("my_package.mine:no_labels", "returns a str as the labels, not a list of names"),
        ("my_package.mine:a_module", r"returns a Flatten; it must return a ServedModel, or \(module, transform\), or"),
        ("my_package.mine:headless", "returns a ServedModel whose head is None, not a Head"),
    ],
)
def test_a_function_that_gives_no_model_is_named_by_file_and_line(model: str, says: str) -> None:
    with pytest.raises(InvalidModel, match=says) as raised:
        load_model(PipelineConfig(model=model))
    assert "\n" not in str(raised.value)
    if model.endswith(":fails"):
        assert "return [][7]" in users_traceback(raised.value)


def test_arguments_that_do_not_fit_are_named() -> None:
    with pytest.raises(InvalidModel, match=rf"^model_args: \['sed'\] do not fit build {AT}: .*argument 'sed'"):
        loaded("build", model_args={"sed": 1})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"model": "a:b", "weights": "IMAGENET1K_V1"},
            "weights: IMAGENET1K_V1 is not for model: a:b, a function",
        ),
        ({"model": "a:b", "crop_px": 64}, "crop_px: 64 is not for model: a:b"),
        (
            {"model_args": {"seed": 1}},
            r"model_args: \['seed'\] are for a function of your own; model: mobilenet_v2",
        ),
    ],
)
def test_settings_that_the_source_does_not_have_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PipelineConfig.model_validate(settings)
    assert source_kind("mobilenet_v2") is SourceKind.TORCHVISION


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("my_package.mine:build", None),
        ("my_package.mine:Namespace.make", None),
        ("my_package.mine:Preprocess", None),
        ("my_package.mine:bild", r"my_package/mine\.py has no bild; did you mean build\?$"),
        ("my_package.other:build", r"^my_package.other:build: there is no module other in .*/my_package$"),
        ("no_such:build", r"^no_such:build: there is no module no_such in .*, on PYTHONPATH or among the"),
        ("torn:build", r"torn\.py:1 is not Python: "),
        ("failing:build", r"failing\.py has no build$"),
        ("needy:build", r"needy\.py has no build$"),
        ("json.decoder:JSONDecoder", None),
    ],
)
def test_a_check_finds_a_missing_function_without_importing_it(model: str, says: str | None) -> None:
    before = {*sys.modules}
    fault = names_fault(model, "IMAGENET1K_V1")
    assert fault is None if says is None else fault and fault[0] == "model" and re.search(says, fault[1])
    assert not {*sys.modules} - before
