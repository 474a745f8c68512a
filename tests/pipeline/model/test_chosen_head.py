"""Tests of the head that a configuration chooses for a model served by name."""

from collections.abc import Iterator

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torchvision import models

from harness.photographs import photograph
from pipeline import Detect, Embed, Engine, Multilabel, PipelineConfig, Prediction, Preprocess, ServedModel
from pipeline.config import HEAD_PARAMETERS
from pipeline.errors import InvalidModel
from pipeline.model.chosen_head import HEADS, check_choice, without_last_layer
from pipeline.model.source import load_model
from pipeline.model.torchvision_classifier import torchvision_classifier
from tests.support.image_files import png

CAT, ESPRESSO = photograph("cat"), photograph("espresso")
CONFIG = PipelineConfig(
    device="cpu", runtime="torch", decode="exact", decode_workers=1, spare_workers=0, batch_sizes=(1, 2), slots=4
)
WEIGHTS = models.MobileNet_V2_Weights.IMAGENET1K_V1


@pytest.fixture(scope="module")
def embedder() -> Iterator[Engine]:
    """Return an engine that serves a pretrained classifier as an embedder."""
    with Engine(CONFIG.model_copy(update={"head": "embed"})) as engine:
        yield engine


def test_a_classifier_embeds_as_without_its_last_layer(embedder: Engine) -> None:
    """The vectors are those of torchvision's own model and transform, with an Identity for the last layer."""
    module = models.mobilenet_v2(weights=WEIGHTS).eval()
    module.classifier[1] = nn.Identity()
    with torch.inference_mode():
        alone = module(torch.stack([WEIGHTS.transforms()(image) for image in (CAT, ESPRESSO)]))
    outcomes = embedder.infer([png(CAT), png(ESPRESSO)])
    for outcome, output in zip(outcomes, alone, strict=True):
        assert isinstance(outcome, Prediction)
        assert outcome.result.vector == pytest.approx((output / output.norm()).numpy(), abs=1e-5)
    assert "without the last layer, classifier.1 (Linear(in_features=1280" in embedder.weights_from
    assert not embedder.labels


@pytest.mark.parametrize(("name", "layer", "width"), [("squeezenet1_1", "classifier.1", 512), ("swin_t", "head", 768)])
def test_the_last_layer_of_a_classifier_is_taken_off(name: str, layer: str, width: int) -> None:
    """The output is then the input of the last layer, a vector an image, also where that layer is a convolution."""
    with torch.device("meta"):
        module, images = models.get_model(name, weights=None).eval(), torch.zeros(2, 3, 224, 224)
    assert without_last_layer(module).startswith(f"{layer} (")
    assert module(images).shape == (2, width)


def test_a_classifier_may_have_several_labels_an_image() -> None:
    served = load_model(PipelineConfig(head="multilabel"))
    assert isinstance(served.head, Multilabel)
    assert served.head.labels == tuple(WEIGHTS.meta["categories"])


def test_a_head_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(
        InvalidModel, match="head: detect does not fit model: mobilenet_v2, a classifier; write classify"
    ):
        torchvision_classifier(PipelineConfig(head="detect"))
    given = ServedModel(nn.Identity(), Preprocess(8, 8), Detect(()))
    with pytest.raises(InvalidModel, match=r"head: embed .* has the head Detect; write head: detect or leave head out"):
        check_choice(PipelineConfig(head="embed"), given)
    check_choice(PipelineConfig(head="detect"), given)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"head": "embed", "max_top_k": 5}, "max_top_k: 5 is for head: classify; remove it, as head is embed"),
        ({"head": "embed", "labels": "names.txt"}, "labels: names.txt are names of classes; remove them"),
        ({"head": "caption"}, "head"),
    ],
)
def test_settings_of_another_head_are_refused(settings: dict[str, str | int], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        PipelineConfig.model_validate(settings)


def test_the_table_of_parameters_has_what_the_heads_have() -> None:
    """The table by which a configuration is checked without torch has the heads' own parameters."""
    heads = {name: kind() if kind is Embed else kind("ab") for name, kind in HEADS.items()}  # type: ignore[call-arg]
    assert {name: (*head.parameters,) for name, head in heads.items()} == HEAD_PARAMETERS
