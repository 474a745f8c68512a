"""The head that the configuration chooses for a model that is served by name."""

from collections.abc import Mapping, Sequence
from typing import Final

from torch import nn

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model.classify import Classify
from pipeline.model.detect import Detect
from pipeline.model.embed import Embed
from pipeline.model.multilabel import Multilabel
from pipeline.model.segment import Segment
from pipeline.model.served import Head, ServedModel

HEADS: Final[Mapping[str, type[Head]]] = {
    "classify": Classify,
    "multilabel": Multilabel,
    "embed": Embed,
    "detect": Detect,
    "segment": Segment,
}
"""Darkroom's own heads by the names that a configuration has for them."""


def classifiers_head(config: PipelineConfig, labels: Sequence[str]) -> Head:
    """Return the head for a classifier: the one that the configuration names, by default `Classify`.

    Args:
        config: names the head.
        labels: name of every class.

    Raises:
        InvalidModel: the configuration names a head that reads no classifier.
    """
    match config.head:
        case None | "classify":
            return Classify(labels, config.max_top_k)
        case "multilabel":
            return Multilabel(labels)
        case "embed":
            return Embed()
    raise InvalidModel(
        f"head: {config.head} does not fit model: {config.model}, a classifier; write classify, multilabel or embed"
    )


def without_last_layer(classifier: nn.Module) -> str:
    """Take the last layer off a classifier, whose output then is the input of that layer; return its description.

    Args:
        classifier: changed in place; its last layer is the one defined last, as in torchvision's classifiers.
    """
    name = [*classifier.state_dict()][-1].rpartition(".")[0]
    layer = classifier.get_submodule(name)
    classifier.set_submodule(name, nn.Identity())
    return f"{name} ({layer})"


def check_choice(config: PipelineConfig, served: ServedModel) -> None:
    """Raise InvalidModel if the configuration names another head than the model's."""
    if config.head and not isinstance(served.head, HEADS[config.head]):
        own = type(served.head).__name__
        known = next((f"write head: {name} or" for name, head in HEADS.items() if head is type(served.head)), "")
        raise InvalidModel(
            f"head: {config.head} does not fit model: {config.model}, which has the head {own}; "
            f"{known}{' ' if known else ''}leave head out"
        )
