"""Tests of image preprocessing: the configuration's, or else that of torchvision's weights, and which is reported."""

from typing import Any

import pytest
from torchvision.models import ResNet50_Weights

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model.preset import Preparation, prepared_by
from pipeline.model.served import Preprocess
from pipeline.records import Transform

V1, V2 = ResNet50_Weights.IMAGENET1K_V1, ResNet50_Weights.IMAGENET1K_V2

ALL: dict[str, Any] = {
    "resize_px": 300,
    "crop_px": 200,
    "interpolation": "bicubic",
    "mean": (0.1, 0.2, 0.3),
    "std": (0.4, 0.5, 0.6),
}


def prepared(weights: ResNet50_Weights | None = V1, *, own: bool = False, **settings: Any) -> Preparation:
    """Return the preprocessing for a configuration."""
    return prepared_by(PipelineConfig(model="resnet50", **settings), weights, own=own)


def test_what_is_not_set_is_the_weights_own() -> None:
    """Settings that are left open are those of the weights, and are reported as theirs."""
    both = prepared(), prepared(V2)
    assert [each.transform.resize_px for each in both] == [256, 232]
    assert [each.source for each in both] == ["ResNet50_Weights.IMAGENET1K_V1", "ResNet50_Weights.IMAGENET1K_V2"]
    assert not any(each.assumed for each in both)


@pytest.mark.parametrize("own", [False, True])
def test_what_is_set_goes_first(own: bool) -> None:
    all_set = prepared(own=own, **ALL)
    assert all_set.transform == Preprocess(300, 200, "bicubic", ALL["mean"], ALL["std"])
    assert (all_set.source, all_set.assumed) == ("the configuration", False)


@pytest.mark.parametrize("key", ALL)
def test_own_weights_are_said_not_to_say_theirs(key: str) -> None:
    """With a user's own weights, assumed settings are reported while one is left open, with the way to change them."""
    nothing_set, one_left = prepared(V2, own=True), prepared(V2, own=True, **{k: v for k, v in ALL.items() if k != key})
    assert nothing_set.source == (
        "ResNet50_Weights.IMAGENET1K_V2 (own weights do not say theirs; resize_px, crop_px, interpolation, mean, std "
        "override it)"
    )
    assert f"{', '.join(k for k in ALL if k != key)} from the configuration, all else from " in one_left.source
    assert nothing_set.assumed
    assert one_left.assumed
    assert "resize_px 232, crop_px 224, bilinear, mean [0.485, 0.456, 0.406], std [0.229" in str(nothing_set)


def test_a_larger_crop_alone_enlarges_the_resize() -> None:
    transform = prepared(crop_px=320).transform
    assert (transform.resize_px, transform.crop_px) == (320, 320)


def test_a_resize_below_the_weights_crop_is_refused() -> None:
    with pytest.raises(InvalidModel, match=r"^crop_px: 224 is larger than resize_px: 128; write crop_px as well$"):
        prepared(resize_px=128)


def test_a_model_without_weights_of_torchvisions_has_the_usual_values() -> None:
    assert prepared(None, own=True).source.startswith("ImageNet's usual values (own weights")


def test_how_images_are_decoded_is_the_configurations() -> None:
    """The configuration decides how images are decoded, the model its sizes."""
    config = PipelineConfig(decode="exact", formats=("PNG",), background="drop")
    in_workers = Preprocess(300, 200, "bicubic").in_workers(config)
    assert in_workers == Transform(300, 200, "bicubic", "exact", ("PNG",), "drop")
