"""Loads the model that the configuration names; the form of the name selects its source."""

from collections.abc import Callable, Mapping
from typing import Final

import torch

from pipeline.config import PipelineConfig
from pipeline.model.chosen_head import check_choice
from pipeline.model.model_file import model_file
from pipeline.model.served import ServedModel
from pipeline.model.source_kind import SourceKind, source_kind
from pipeline.model.timm_model import timm_model
from pipeline.model.torchvision_classifier import torchvision_classifier
from pipeline.model.torchvision_detector import torchvision_detector
from pipeline.model.torchvision_segmenter import torchvision_segmenter
from pipeline.model.users_function import users_model
from pipeline.torchvision_models import models


def _torchvision(config: PipelineConfig) -> ServedModel:
    if config.model in models.list_models(module=models.detection):
        return torchvision_detector(config)
    if config.model in models.list_models(module=models.segmentation):
        return torchvision_segmenter(config)
    return torchvision_classifier(config)


_SOURCES: Final[Mapping[SourceKind, Callable[[PipelineConfig], ServedModel]]] = {
    SourceKind.FUNCTION: users_model,
    SourceKind.TORCHVISION: _torchvision,
    SourceKind.TIMM: timm_model,
    SourceKind.FILE: model_file,
}


def load_model(config: PipelineConfig) -> ServedModel:
    """Load the model that the configuration names. Limits torch to one thread, here and in later threads.

    Raises:
        InvalidModel: the settings do not fit together, or the model cannot be loaded.
    """
    # A loader may try the model. Several threads would wait for each other, for seconds on a machine that is busy.
    torch.set_num_threads(1)
    served = _SOURCES[source_kind(config.model)](config)
    check_choice(config, served)
    return served
