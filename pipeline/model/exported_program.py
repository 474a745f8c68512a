"""Loads programs of torch.export (.pt2).

Such a file is a program: it is trusted like code. All the same, nothing in it is unpickled that is not a tensor, and
neither compiled libraries nor objects of other classes are loaded.
"""

import os
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch

from pipeline.errors import InvalidModel, first_line
from pipeline.model.saved_module import ANY_BATCH, BatchSizes, SavedModule, side_of

KIND: Final = "an exported program"

_COMPILED: Final = "/data/aotinductor/"
_CONSTANTS: Final = "/data/constants/"
_TENSORS: Final = ("tensor_", "model_constants_config.json")
"""Folders in an archive, and beginnings of the names of constants that are loaded; other constants are pickled."""


def exported_program(path: Path, named: str, device_kind: str) -> SavedModule:
    """Load a program of torch.export.

    Args:
        path: path of the file.
        named: name of the model, for messages.
        device_kind: "cpu" or "cuda"; constants of the program are moved there.

    Raises:
        InvalidModel: the program cannot be loaded, or does not take one batch of images.
    """
    _check_members(path, named)
    try:
        with _tensors_only(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch 2.11 warns of its own reading of weights
            program = torch.export.load(path)
        if device_kind == "cuda":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, "cuda")
    except Exception as error:  # a damaged file, or one of another version of torch, raises anything
        raise InvalidModel(
            f"{named} cannot be loaded as a program of torch.export: {first_line(error)}; export it again with torch "
            f"{torch.__version__.partition('+')[0]}"
        ) from error
    batch, *sizes, dtype = _input_of(program, named)
    network = program.module(check_guards=False)
    network.validate_inputs = False  # type: ignore[assignment]  # its check of each input cannot be traced
    side_px = side_of([_fixed(size) for size in sizes], named)
    return SavedModule(network, KIND, sizes=_batch_sizes(batch, program), side_px=side_px, dtype=dtype)


def _check_members(path: Path, named: str) -> None:
    """Raise InvalidModel if an archive has parts that are not loaded."""
    with zipfile.ZipFile(path) as archive:
        members = [f"/{name}" for name in archive.namelist()]
    if any(_COMPILED in name for name in members):
        raise InvalidModel(
            f"{named} holds a library compiled by AOTInductor, which is not loaded; save the program itself, by "
            "torch.export.save(program, path)"
        )
    constants = [name.partition(_CONSTANTS)[2] for name in members if _CONSTANTS in name]
    if pickled := [name for name in constants if not name.startswith(_TENSORS)]:
        raise InvalidModel(
            f"{named} holds an object that is not a tensor ({pickled[0]}), which is code and is not loaded; export the "
            "program without it"
        )


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Let `torch.load` unpickle only tensors, also where torch.export asks for more."""
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before


def _input_of(program: torch.export.ExportedProgram, named: str) -> list[Any]:
    """Return the sizes of the program's only input, integers or symbols, and its number format.

    Raises:
        InvalidModel: the program has other inputs than one batch of images.
    """
    inputs = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    values = [node.meta["val"] for node in inputs]
    if len(values) != 1 or not isinstance(values[0], torch.Tensor) or values[0].ndim != 4:
        shapes = ", ".join(str([*getattr(value, "shape", ())]) for value in values) or "nothing"
        raise InvalidModel(
            f"{named} takes {shapes}; Darkroom gives a program one batch of images, [n, 3, height, width]"
        )
    if not values[0].dtype.is_floating_point:
        raise InvalidModel(f"{named} takes {values[0].dtype}; Darkroom gives a program floats, which are normalised")
    return [*values[0].shape, values[0].dtype]


def _fixed(size: int | torch.SymInt) -> int | None:
    return size if isinstance(size, int) else None


def _batch_sizes(batch: int | torch.SymInt, program: torch.export.ExportedProgram) -> BatchSizes:
    """Return the sizes of batches that a program accepts; 2 or more if it was exported without an explicit range."""
    if isinstance(batch, int):
        return BatchSizes(batch, batch)
    limits = program.range_constraints.get(batch.node.expr)
    if limits is None:
        return ANY_BATCH
    return BatchSizes(max(1, int(limits.lower)), int(limits.upper) if limits.upper.is_Integer else None)
