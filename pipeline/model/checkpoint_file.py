"""Reads files of weights without running any code in them."""

import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final, Self

import safetensors.torch
import torch

from pipeline.errors import InvalidModel, first_line

_HEAD_BYTES: Final = 512

_OTHER_KINDS_OF_FILES: Final = (
    (0, b"version https://git-lfs", "a Git LFS pointer; fetch the file itself by `git lfs pull`"),
    (0, b"<", "HTML or XML, perhaps the error page of a download"),
    (0, b"\x1f\x8b", "compressed by gzip; unpack it"),
    (0, b"\x89HDF", "HDF5, as Keras writes it; Darkroom serves weights of torchvision's models"),
    (0, b"{", "JSON, perhaps the index of weights in several files; join them by torch.save(state_dict)"),
    (257, b"ustar", "a tar archive; unpack it"),
)
"""Files that are not weights: offset, bytes at that offset, and a description of the file."""

_FILLING_REFUSED: Final = re.compile(r"(?P<does>SETITEM|append|extend).*<class 'stand-in\.(?P<name>.+)'>")
"""Matches torch's refusal to fill an object that is not one of its own lists or dicts."""


class Placeholder:
    """An empty object in place of one whose class torch does not consider safe.

    Attributes:
        is_module: whether the original is an `nn.Module`.
    """

    is_module = False

    def __new__(cls, *_args: object, **_settings: object) -> Self:
        """Accept any arguments that the file passes."""
        return super().__new__(cls)

    def __init__(self, *_args: object, **_settings: object) -> None:
        """Ignore all arguments."""

    def __setstate__(self, state: object) -> None:
        """Ignore the state, except whether it is that of a module."""
        self.is_module = isinstance(state, dict) and "_modules" in state


def read_checkpoint(path: Path) -> Any:
    """Return the content of a file of weights: tensors, dicts and lists.

    Settings of the training and other objects that torch does not consider safe become a `Placeholder`. No code of a
    file is run, whatever the suffix of its name.

    Raises:
        InvalidModel: the file cannot be read, or is not a file of weights.
    """
    try:
        head = _head(path)
        if head[8:9] == b"{":  # safetensors: JSON behind the header's length
            return safetensors.torch.load_file(path)
        if head[:2] == b"PK":
            return _read_zip(path)
        if head[:1] == b"\x80":  # a pickle: as torch wrote before 1.6
            return _load(path)
    except InvalidModel:
        raise
    except OSError as error:
        raise InvalidModel(f"weights: {path.absolute()} cannot be read: {first_line(error)}") from error
    except Exception as error:  # a damaged file raises anything
        raise InvalidModel(
            f"weights: {path.absolute()} cannot be read as a state dict: {_cause(error)}; write it anew where it was "
            "trained, by torch.save(model.state_dict(), path)"
        ) from error
    raise InvalidModel(f"weights: {path.absolute()} is not a file of weights but {_described(head)}")


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise InvalidModel(
            f"weights: {path.absolute()} is a folder; name a file, and save what is in several as one state dict"
        )
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _described(head: bytes) -> str:
    if not head:
        return "empty"
    known = (what for offset, begin, what in _OTHER_KINDS_OF_FILES if head[offset:].lstrip()[: len(begin)] == begin)
    return next(known, f"something else: it begins with {head[:8]!r}")


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
    if "data.pkl" not in names or "constants.pkl" in names:
        what = "a TorchScript archive" if "constants.pkl" in names else "a zip archive without a checkpoint of torch's"
        raise InvalidModel(
            f"weights: {path.absolute()} is {what}; save the model's state dict instead, by "
            "torch.save(model.state_dict(), path)"
        )
    try:
        return _load(path)
    except UnpicklingError:
        return _read_with_stand_ins(path)


def _load(path: Path) -> Any:
    with path.open("rb") as file:  # given a path, torch might take it for safetensors by its suffix
        return torch.load(file, map_location="cpu", weights_only=True)


def _read_with_stand_ins(path: Path) -> Any:
    """Read a file with objects of foreign classes, each replaced by an empty object.

    An object that the file then fills as a dict or list becomes one: torch's unpickler fills nothing else, and its
    error tells which of the two.
    """
    made_as: dict[str, type] = dict.fromkeys(torch.serialization.get_unsafe_globals_in_checkpoint(path), object)
    while True:
        stand_ins = [(_stand_in(name, kind), name) for name, kind in made_as.items()]
        try:
            with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]  # pairs are documented
                return _load(path)
        except UnpicklingError as error:
            wrong = _FILLING_REFUSED.search(str(error))
            if not wrong or made_as.get(wrong["name"]) is not object:
                raise
            made_as[wrong["name"]] = OrderedDict if wrong["does"] == "SETITEM" else list


def _stand_in(name: str, kind: type) -> type:
    """Return a class of that name whose instances are empty: a `Placeholder`, or a dict or list that torch fills."""
    if kind is not object:
        return type(name, (), {"__module__": "stand-in", "__new__": lambda _cls, *_args, **_settings: kind()})
    return type(name, (Placeholder,), {"__module__": "stand-in"})


def _cause(error: Exception) -> str:
    """Return the first line of an error; for torch's long messages on `weights_only`, the line with the cause."""
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"it holds {named[1]}, which is code or may run some"
    cause = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
    return cause[1] if cause else first_line(error)
