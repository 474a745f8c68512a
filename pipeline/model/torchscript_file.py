"""Loads networks saved by TorchScript (`torch.jit.save`). Such a file is a program: it is trusted like code."""

import warnings
from pathlib import Path
from typing import Final

import torch

from pipeline.errors import InvalidModel, first_line
from pipeline.model.saved_module import SavedModule

KIND: Final = "a TorchScript file"

_FORMATS: Final = (torch.float32, torch.float16, torch.bfloat16)


def torchscript_file(path: Path, named: str, device_kind: str) -> SavedModule:
    """Load a network saved by TorchScript.

    The file says neither what sizes of images nor what batches it takes; the warm-up finds that out.

    Args:
        path: path of the file.
        named: name of the model, for messages.
        device_kind: "cpu" or "cuda", where its constants are put.

    Raises:
        InvalidModel: the file cannot be loaded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated; files of it are still in use
            network = torch.jit.load(path, map_location=device_kind)  # type: ignore[no-untyped-call]
    except Exception as error:  # a damaged file raises anything
        raise InvalidModel(f"{named} cannot be loaded as a TorchScript file: {first_line(error)}") from error
    formats = {tensor.dtype for tensor in (*network.parameters(), *network.buffers())} & {*_FORMATS}
    return SavedModule(network, KIND, dtype=formats.pop() if len(formats) == 1 else torch.float32)
