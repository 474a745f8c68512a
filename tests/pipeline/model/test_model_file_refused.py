"""Tests of model files that are refused: other files, code in them, and settings that do not fit them."""

import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model.source import load_model
from tests.support.network_files import FILES, NETWORK, exported, onnx_file, settings_of


@pytest.fixture(scope="module", params=FILES)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FILES[request.param](tmp_path_factory.mktemp("networks") / request.param)


class Payload:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def with_payload(path: Path, mark: Path) -> None:
    """Replace the example inputs of a program, which torch.export would unpickle, by code."""
    members = {}
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, pickle.dumps(Payload(mark)) if "sample_inputs" in name else content)


def test_nothing_is_unpickled_from_a_program(tmp_path: Path) -> None:
    path, mark = exported(tmp_path / "bad.pt2"), tmp_path / "mark"
    with_payload(path, mark)
    with pytest.raises(InvalidModel, match=r"bad.pt2 cannot be loaded as a program of torch.export: .*export it again"):
        load_model(PipelineConfig(**settings_of(path)))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("member", "what"),
    [
        ("x/data/constants/opaque_obj_0", r"an object that is not a tensor \(opaque_obj_0\), which is code"),
        ("x/data/constants/custom_obj_0", "an object that is not a tensor"),
        ("x/data/aotinductor/model/x.so", "a library compiled by AOTInductor, which is not loaded"),
    ],
)
def test_code_in_a_program_is_refused(tmp_path: Path, member: str, what: str) -> None:
    path = exported(tmp_path / "x.pt2")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, b"code")
    with pytest.raises(InvalidModel, match=f"^model: {path} holds {what}"):
        load_model(PipelineConfig(**settings_of(path)))


def written(path: Path, content: bytes | object) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pt", NETWORK.state_dict(), r"holds weights without a network; .* write weights: .*w.pt$"),
        (
            "m.pth",
            NETWORK,
            r"holds a pickled module \(.*Network\), which is code and is not run; save it by torch.export",
        ),
        ("x.pt2", b"no program", r"is neither a program of torch.export nor a TorchScript or .onnx file"),
        ("x.onnx", b"no network", r"cannot be loaded by ONNX Runtime: InvalidProtobuf"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, name: str, content: object, message: str) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(InvalidModel, match=rf"^model: {path} {message}"):
        load_model(PipelineConfig(**settings_of(path)))


def test_what_does_not_fit_a_file_is_refused(file: Path, tmp_path: Path) -> None:
    settings, labels = settings_of(file), tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    with pytest.raises(InvalidModel, match=r"labels\.txt has 2 lines; the model has 5 classes"):
        load_model(PipelineConfig(**settings, labels=str(labels)))
    with pytest.raises(InvalidModel, match=r"crop_px: 48 is not the size that|takes? images of 48 x 48 pixels"):
        load_model(PipelineConfig(**{**settings, "crop_px": 48, "resize_px": 48}))
    with pytest.raises(InvalidModel, match=r"^weights: own\.pth cannot be loaded into model: .* leave it out"):
        load_model(PipelineConfig(**settings, weights="own.pth"))


def test_a_missing_file_and_a_missing_package_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidModel, match=r"none\.pt2 cannot be read: FileNotFoundError"):
        load_model(PipelineConfig(**settings_of(tmp_path / "none.pt2")))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InvalidModel, match=r"needs ONNX Runtime, which is not installed; .* 'darkroom\[onnx\]'$"):
        load_model(PipelineConfig(**settings_of(onnx_file(tmp_path / "x.onnx"))))
