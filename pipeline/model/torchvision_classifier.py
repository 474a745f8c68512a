"""Loads torchvision's classifiers by name, with torchvision's weights or with those of a file."""

from functools import partial

from torch import nn

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model.catalogue import is_path, no_such_model
from pipeline.model.checkpoint import find_state, head_of
from pipeline.model.chosen_head import classifiers_head, without_last_layer
from pipeline.model.fetch import local_path
from pipeline.model.input_size import check_size
from pipeline.model.labels import read_labels
from pipeline.model.preset import prepared_by
from pipeline.model.served import ServedModel
from pipeline.model.torchvision_weights import fill, named_weights, on_meta, pretrained
from pipeline.pinned_file import PinnedFile
from pipeline.torchvision_models import WeightsEnum, models


def torchvision_classifier(config: PipelineConfig) -> ServedModel:
    """Build the torchvision classifier that the configuration names.

    Raises:
        InvalidModel: name, weights, labels and sizes do not fit together, or cannot be loaded.
    """
    if config.model not in models.list_models(module=models):
        raise InvalidModel(f"model: {no_such_model(config.model, models.list_models(module=models))}")
    known = models.get_model_weights(config.model)
    if own := is_path(config.weights):
        reference: WeightsEnum | None = getattr(known, "DEFAULT", None)
        backbone, classes, weights_from = _from_file(config)
    else:
        reference = named_weights(known, config)
        backbone, classes, weights_from = pretrained(config), len(reference.meta["categories"]), str(reference)
    backbone.eval()
    prepared = prepared_by(config, reference, own=own)
    check_size(backbone, config.model, prepared.transform.crop_px, reference)
    labels = read_labels(config.labels, classes, reference.meta["categories"] if reference else ())
    head = classifiers_head(config, labels)
    if config.head == "embed":
        weights_from += f", without the last layer, {without_last_layer(backbone)}"
    return ServedModel(backbone, prepared.transform, head, weights_from, prepared.source, prepared.assumed)


def _from_file(config: PipelineConfig) -> tuple[nn.Module, int, str]:
    """Return the model with the weights of a file, its number of classes, and the place of the weights in the file."""
    file = PinnedFile.named(config.weights, "weights")
    build, named = partial(_untrained, config.model), f"weights: {file} do not fit model: {config.model}"
    template = on_meta(build, 1000)
    found = find_state(local_path(file), template, named=named)
    classes = len(found.state[f"{head_of(template)}.weight"])
    if classes == 1 and config.head in (None, "classify"):
        raise InvalidModel(
            f"weights: {file} have a single output, whose softmax is always 1.0; a classifier needs one for "
            "each class. Write head: multilabel, whose score is the sigmoid of the output. Put a row of zeros before "
            f"the only one in {head_of(template)}'s weight and bias if you want two classes: the score of the second "
            "is then that sigmoid"
        )
    backbone = build(classes)
    fill(backbone, found.state, named=named)
    return backbone, classes, f"{file}{found}"


def _untrained(model: str, classes: int) -> nn.Module:
    # Otherwise these two models warn, and take seconds to generate weights that are overwritten at once.
    settings = {"init_weights": False} if model in ("googlenet", "inception_v3") else {}
    module: nn.Module = models.get_model(model, weights=None, num_classes=classes, **settings)
    return module
