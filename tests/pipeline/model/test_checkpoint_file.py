"""Tests of reading weight files: foreign or damaged files and code are refused, and no code runs."""

import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.support.checkpoints import STATE, holds, loaded, refusal, saved

OTHER_FILES: dict[str, tuple[bytes, str]] = {
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
        "is not a file of weights but a Git LFS pointer",
    ),
    "web page": (b"\n<!DOCTYPE html><html>", "is not a file of weights but HTML"),
    "gzip": (b"\x1f\x8b\x08\0", "is not a file of weights but compressed by gzip"),
    "Keras": (b"\x89HDF\r\n\x1a\n", "is not a file of weights but HDF5"),
    "index": (b'{"metadata": {}}', "is not a file of weights but JSON"),
    "tar": (b"w.pth".ljust(257, b"\0") + b"ustar\0", "is not a file of weights but a tar archive"),
    "empty": (b"", "is not a file of weights but empty"),
    "text": (b"text", "is not a file of weights but something else: it begins with b'text'"),
    "zeros": (b"\0" * 64, "is not a file of weights but something else"),
    "torn zip": (b"PK\3\4 torn", "cannot be read as a state dict: BadZipFile: File is not a zip file; write it anew"),
    "torn pickle": (b"\x80\2]q\0.", "cannot be read as a state dict: "),
    "nothing pickled": (b"\x80\4.", "cannot be read as a state dict: "),
    "torn safetensors": (b"\xff\0\0\0\0\0\0\0{}", "cannot be read as a state dict: SafetensorError: "),
}


@pytest.mark.parametrize("content", OTHER_FILES)
def test_a_file_of_another_kind_is_named(content: str, tmp_path: Path) -> None:
    data, says = OTHER_FILES[content]
    (tmp_path / "other.pth").write_bytes(data)
    assert refusal(tmp_path / "other.pth").startswith(f"weights: {tmp_path}/other.pth {says}")


def test_what_is_no_checkpoint_in_a_zip_is_named(tmp_path: Path) -> None:
    """A zip archive that is no checkpoint is named in the error, and so is a TorchScript archive, which is code."""
    np.savez(tmp_path / "w.npz", a=np.zeros(1))
    assert "is a zip archive without a checkpoint of torch's; save the model's" in refusal(tmp_path / "w.npz")
    with torch.serialization.skip_data(), (tmp_path / "w.pt").open("wb") as file:
        torch.save({}, file)
    with zipfile.ZipFile(tmp_path / "w.pt", "a") as archive:
        archive.writestr("archive/constants.pkl", b"")
    assert "is a TorchScript archive; save the model's state dict" in refusal(tmp_path / "w.pt")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("written_by", ["torch", "torch before 1.6", "safetensors"])
def test_a_file_that_is_cut_off_is_refused(written_by: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / "whole"
    if written_by == "safetensors":
        safetensors.torch.save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=written_by == "torch")
    data = path.read_bytes()
    (tmp_path / "torn.pth").write_bytes(data[: int(share * len(data))])
    assert "torn.pth cannot be read as a state dict: " in refusal(tmp_path / "torn.pth")


def test_files_that_are_not_there_and_folders_are_refused(tmp_path: Path) -> None:
    assert "none.pth cannot be read: FileNotFoundError" in refusal(tmp_path / "none.pth")
    assert "is a folder; name a file" in refusal(tmp_path)


@pytest.mark.parametrize("new", [True, False])
def test_code_in_a_file_is_not_run(new: bool, tmp_path: Path) -> None:
    """Code in a pickle is not run, alone or beside weights; what can be left out is."""
    path = tmp_path / "trap.pth"
    for trap in (Trap(subprocess.call, ["touch", str(tmp_path / "sprung")]), Trap(Path.touch, tmp_path / "sprung")):
        torch.save(trap, path, _use_new_zipfile_serialization=new)
        assert "state dict" in refusal(path)
        torch.save({"state_dict": STATE, "args": trap}, path, _use_new_zipfile_serialization=new)
        if new and trap.function is subprocess.call:
            assert holds(loaded(path), STATE)
        else:
            assert "cannot be read as a state dict: " in refusal(path)
    assert not (tmp_path / "sprung").exists()


class Trap:
    """An object that calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], argument: Any) -> None:
        self.function, self.argument = function, argument

    def __reduce__(self) -> tuple[Any, ...]:
        """Call the function when it is unpickled."""
        return self.function, (self.argument,)


def test_modules_that_torch_blocks_are_refused(tmp_path: Path) -> None:
    """A pickle that refers to a module which torch blocks, as `os`, is refused."""
    path = saved({"state_dict": STATE, "args": Trap(os.system, "true")}, tmp_path)
    assert "cannot be read as a state dict: " in refusal(path)
