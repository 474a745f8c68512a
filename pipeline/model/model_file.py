"""Loads a model from a file that holds the whole network: torch.export, TorchScript or ONNX.

The content of a file tells its kind, whatever its name; only ONNX, which has no mark of its own, goes by `.onnx`.
"""

import logging
import math
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel, first_line
from pipeline.model.agreement import MAX_SCORE_DIFFERENCE
from pipeline.model.checkpoint_file import Placeholder, read_checkpoint
from pipeline.model.chosen_head import classifiers_head
from pipeline.model.device_kind import resolved_kind
from pipeline.model.exported_program import exported_program
from pipeline.model.fetch import local_path
from pipeline.model.labels import read_labels
from pipeline.model.onnx_network import onnx_network
from pipeline.model.preset import USUAL_VALUES, Preparation, completed
from pipeline.model.saved_module import BatchSizes, SavedModule
from pipeline.model.served import Preprocess, ServedModel
from pipeline.model.torchscript_file import torchscript_file
from pipeline.pinned_file import PinnedFile

_USUAL_SIDE_PX: Final = 224
_USUAL_CROP_SHARE: Final = 0.875
"""Size of the images, and share of the resize that the crop keeps, where neither file nor configuration says it."""

_SUM_TOLERANCE: Final = 1e-3
"""Largest difference of a sum from 1 in the outputs of a softmax: that of half precision."""

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})


def model_file(config: PipelineConfig) -> ServedModel:
    """Load the model from the file that the configuration names, by path or URL.

    Raises:
        InvalidModel: the file cannot be fetched, read or served.
    """
    file = PinnedFile.named(config.model, "model")
    named = f"model: {file}"
    _check_settings(config, named)
    module = _loaded(local_path(file), file, resolved_kind(config))
    _check_format(config, module, named)
    prepared = _prepared(config, module, named)
    outputs = _first_outputs(module, prepared.transform.crop_px, named)
    head = classifiers_head(config, read_labels(config.labels, outputs.shape[1]))
    logger.info("%s is %s that takes %s images at a time", named, module.kind, module.sizes)
    return ServedModel(module, prepared.transform, head, str(file), prepared.source, prepared.assumed)


# ---- the file -------------------------------------------------------------------------------------------------------


def _loaded(path: Path, file: PinnedFile, device_kind: str) -> SavedModule:
    named = f"model: {file}"
    if file.suffix == ".onnx" and path.is_file():
        return onnx_network(path, named, device_kind)
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except zipfile.BadZipFile:
        names = set()
    except OSError as error:
        raise InvalidModel(f"{named} cannot be read: {first_line(error)}") from error
    if names & {"archive_format", "serialized_exported_program.json"}:
        return exported_program(path, named, device_kind)
    if "constants.pkl" in names:
        return torchscript_file(path, named, device_kind)
    raise _no_network(path, named)


def _no_network(path: Path, named: str) -> InvalidModel:
    """Return the error about a file that holds weights, or something else."""
    try:
        content = read_checkpoint(path)
    except InvalidModel as error:
        return InvalidModel(
            f"{named} is neither a program of torch.export nor a TorchScript or .onnx file ({str(error)[:200]})"
        )
    if isinstance(content, Placeholder) and content.is_module:
        return InvalidModel(
            f"{named} holds a pickled module ({type(content).__name__}), which is code and is not run; save it by "
            "torch.export.save(torch.export.export(module, (images,)), path), or write a function that builds it, as "
            "model: my_module:build"
        )
    return InvalidModel(
        f"{named} holds weights without a network; name the network in model, as in model: resnet50, and write "
        f"weights: {path}"
    )


# ---- the settings ---------------------------------------------------------------------------------------------------


def _check_settings(config: PipelineConfig, named: str) -> None:
    if "weights" in config.model_fields_set:
        raise InvalidModel(f"weights: {config.weights} cannot be loaded into {named}, which has its own; leave it out")


def _check_format(config: PipelineConfig, module: SavedModule, named: str) -> None:
    saved = str(module.dtype).removeprefix("torch.")
    if config.dtype not in ("auto", "float32", saved):
        raise InvalidModel(
            f"dtype: {config.dtype} cannot be chosen for {named}: {module.kind} computes in the format in which it was "
            f"saved, here {saved}; leave dtype out"
        )
    if module.of_bytes and (config.mean or config.std):
        raise InvalidModel(f"{named} takes pixels of 0..255 and normalises them itself; leave mean and std out")


def _prepared(config: PipelineConfig, module: SavedModule, named: str) -> Preparation:
    """Return the preprocessing in the configuration, completed by the size that the network takes and usual values."""
    if config.crop_px and module.side_px and config.crop_px != module.side_px:
        raise InvalidModel(
            f"crop_px: {config.crop_px} is not the size that {named} takes, {module.side_px}; leave it out"
        )
    side_px = module.side_px or config.crop_px or _USUAL_SIDE_PX
    known = Preprocess(_resize_px(side_px), side_px)
    if module.of_bytes:
        known = replace(known, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    return completed(config, known, USUAL_VALUES, own=True)


def _resize_px(side_px: int) -> int:
    """Return the usual resize before a crop, such as 256 before one of 224."""
    return math.floor(side_px / _USUAL_CROP_SHARE)


# ---- the first images -----------------------------------------------------------------------------------------------


def _first_outputs(module: SavedModule, side_px: int, named: str) -> Tensor:
    """Compute two images; return the outputs that the head reads, [2, classes].

    Raises:
        InvalidModel: the network does not take such images, or does not give each of them a row of numbers.
    """
    images = torch.rand(2, 3, side_px, side_px, generator=torch.Generator().manual_seed(0)).to(module.dtype)
    images = images.mul(255).round() if module.of_bytes else images
    place = next((tensor.device for tensor in module.state_dict().values()), None)
    images = images.to(place) if place else images
    try:
        with torch.inference_mode():
            outputs = module(images)
            module.output = _chosen(outputs, named)
            outputs = module(images)
            _try_one_image(module, images, outputs)
    except InvalidModel:
        raise
    except Exception as error:  # a network may raise anything
        raise InvalidModel(
            f"{named} does not take images of {side_px} x {side_px} pixels: {first_line(error)}; set crop_px to "
            "the size that it takes"
        ) from error
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(images):
        shape = [*outputs.shape] if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InvalidModel(f"{named} gives {shape} for 2 images; a classifier gives [2, classes]")
    if outputs.min() >= 0 and (outputs.sum(1) - 1).abs().max() < _SUM_TOLERANCE:
        logger.warning(
            "%s gives numbers from 0 up that sum to 1 for each image, as behind a softmax; head: classify computes the "
            "softmax itself, so export the network without it",
            named,
        )
    return outputs


def _chosen(outputs: Any, named: str) -> str | int | None:
    """Return the name or position of the output that is used, the first of several; None if there is just one."""
    if isinstance(outputs, Tensor):
        return None
    names: list[Any] = [*outputs] if isinstance(outputs, Mapping) else [*range(len(outputs))]
    if len(names) > 1:
        logger.warning("%s has the outputs %s; %s is used", named, ", ".join(map(str, names)), names[0])
    return names[0]  # type: ignore[no-any-return]


def _try_one_image(module: SavedModule, images: Tensor, outputs: Any) -> None:
    """Let the network compute single images, if it gives the same output for them.

    torch.export gives every program without an explicit range that of 2 or more images.
    """
    if module.sizes.least != 2 or module.sizes.most == 2 or not isinstance(outputs, Tensor):
        return
    saved, module.sizes = module.sizes, BatchSizes(1, module.sizes.most)
    try:
        alone = module(images[:1])
    except Exception:  # noqa: BLE001 - a network may raise anything
        module.sizes = saved
        return
    largest = outputs.abs().max().clamp(min=1)
    if not (alone - outputs[:1]).abs().max() <= MAX_SCORE_DIFFERENCE[module.dtype] * largest:
        module.sizes = saved
