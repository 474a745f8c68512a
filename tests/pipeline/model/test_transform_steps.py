"""Tests that the usual four steps are read in every spelling, and that nothing else is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.transforms import InterpolationMode, transforms, v2

from pipeline.model.served import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from pipeline.model.transform_steps import Recognised, Unrecognised, read_steps

T: Any = transforms
NORMALIZE = T.Normalize(IMAGENET_MEAN, IMAGENET_STD)
ZEROS, ONES = (0.0,) * 3, (1.0,) * 3
TO_FLOATS = v2.ToDtype(torch.float32, scale=True)


def to_rgb(picture: Image.Image) -> Image.Image:
    """Convert as CLIP's transform does."""
    return picture.convert("RGB")


def four(
    resize: Any = None, crop: Any = None, floats: Any = None, normalise: Any = NORMALIZE, *, of: Any = T.Compose
) -> Any:
    """Compose the usual steps, with others in their places."""
    return of([resize or T.Resize(256), crop or T.CenterCrop(224), floats or T.ToTensor(), normalise])


USUAL = Preprocess(256, 224)
READ: dict[str, tuple[Any, Preprocess]] = {
    "the source's own": (four(), USUAL),
    "v2 as its page writes them": (
        v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.ToImage(), TO_FLOATS, v2.Normalize([0.5] * 3, [0.25] * 3)]),
        Preprocess(256, 224, "bilinear", (0.5,) * 3, (0.25,) * 3),
    ),
    "lists of one": (four(T.Resize([256]), T.CenterCrop([224])), USUAL),
    "a square pair": (four(v2.Resize((256,)), v2.CenterCrop((224, 224))), USUAL),
    "antialias, which Pillow ignores": (four(T.Resize(256, antialias=False)), USUAL),
    "Pillow's number": (four(T.Resize(256, 3)), Preprocess(256, 224, "bicubic")),
    "an enum": (
        four(v2.Resize(256, InterpolationMode.NEAREST_EXACT)),
        Preprocess(256, 224, "nearest"),
    ),
    "a text": (four(v2.Resize(256, "lanczos")), Preprocess(256, 224, "lanczos")),
    "one number for all channels": (
        four(normalise=T.Normalize([0.5], [0.5], inplace=True)),
        Preprocess(256, 224, "bilinear", (0.5,) * 3, (0.5,) * 3),
    ),
    "no Normalize": (four(normalise=nn.Identity()), Preprocess(256, 224, "bilinear", ZEROS, ONES)),
    "pixels to 255": (
        four(floats=T.Compose([T.PILToTensor(), v2.ToDtype(torch.float32)]), normalise=T.Normalize([51.0], [102.0])),
        Preprocess(256, 224, "bilinear", (0.2,) * 3, (0.4,) * 3),
    ),
    "converted in two steps": (four(floats=T.Compose([T.PILToTensor(), T.ConvertImageDtype(torch.float32)])), USUAL),
    "normalised before the crop": (T.Compose([T.Resize(256), T.ToTensor(), NORMALIZE, T.CenterCrop(224)]), USUAL),
    "nested, with steps that do nothing": (
        T.Compose([T.Lambda(lambda any_name: any_name.convert("RGB")), four(), v2.ToPureTensor(), lambda x: x]),
        USUAL,
    ),
    "a function that does nothing": (four(T.Compose([v2.RGB(), to_rgb, T.Resize(256)])), USUAL),
    "Sequential": (
        nn.Sequential(v2.Resize(256), nn.Sequential(T.CenterCrop(224), v2.ToImage(), TO_FLOATS), NORMALIZE),
        USUAL,
    ),
    "squashed, without a crop": (
        T.Compose([T.Resize((224, 224)), T.ToTensor(), NORMALIZE]),
        Preprocess(224, 224, squash=True),
    ),
    "squashed": (four(T.Resize([256, 256])), Preprocess(256, 224, squash=True)),
    "a preset": (models.MobileNet_V2_Weights.IMAGENET1K_V2.transforms(), Preprocess(232, 224)),
}


@pytest.mark.parametrize("name", READ)
def test_every_spelling_is_read(name: str) -> None:
    """The settings of the fast path follow from the transform, however it is written."""
    transform, expected = READ[name]
    assert read_steps(transform) == Recognised(expected)


def test_a_resize_of_a_tensor_is_marked() -> None:
    """Torch's kernel resizes tensors, so the fast path must use the same one."""
    steps = [v2.ToImage(), v2.Resize(256, "bicubic"), v2.CenterCrop(224), TO_FLOATS, NORMALIZE]
    assert read_steps(v2.Compose(steps)) == Recognised(Preprocess(256, 224, "bicubic"), resizes_tensors=True)


class OwnCrop(transforms.CenterCrop):  # type: ignore[misc]
    """A subclass, which may do anything."""


def hooked() -> Any:
    """Make a step whose output a hook may change."""
    step = T.CenterCrop(224)
    step.register_forward_hook(lambda *_: None)
    return step


def replaced() -> Any:
    """Make a step whose method is another function."""
    step = T.CenterCrop(224)
    step.forward = lambda image: image
    return step


NOT_READ: dict[str, tuple[Any, str]] = {
    "random": (four(T.RandomResizedCrop(224)), "RandomResizedCrop is not a step of the fast path"),
    "another class": (four(T.Grayscale(3)), "Grayscale is not a step of the fast path"),
    "a method": (T.Compose([USUAL.__str__]), "Preprocess.__str__ (served.py:"),
    "another function": (T.Lambda(lambda x: x.rotate(1)), "<lambda> (test_transform_steps.py:"),
    "a function of a default": (lambda x, *, y=1: y, "<lambda> (test_transform_steps.py:"),  # noqa: ARG005
    "a subclass": (four(crop=OwnCrop(224)), "OwnCrop is not a step of the fast path"),
    "a hook": (four(crop=hooked()), "CenterCrop with a hook or a replaced method is not"),
    "a method replaced": (four(crop=replaced()), "CenterCrop with a hook or a replaced method is not"),
    "max_size": (four(T.Resize(256, max_size=300)), "Resize has max_size=300"),
    "max_size alone": (four(v2.Resize(None, max_size=300)), "Resize has max_size=300"),
    "no crop": (T.Compose([T.Resize(256), T.ToTensor()]), "it has no CenterCrop, and Resize(256) alone keeps"),
    "another shape": (T.Compose([T.Resize((240, 320)), T.ToTensor()]), "Resize([240, 320]) is not square"),
    "no resize": (T.Compose([T.ToTensor(), NORMALIZE]), "it has no Resize"),
    "a crop before the resize": (T.Compose([T.CenterCrop(224), T.Resize(256), T.ToTensor()]), "it crops before it"),
    "two resizes": (four(T.Compose([T.Resize(300), T.Resize(256)])), "it resizes twice"),
    "two crops": (four(crop=T.Compose([T.CenterCrop(250), T.CenterCrop(224)])), "it crops twice"),
    "two normalisations": (T.Compose([four(), NORMALIZE]), "it normalises twice"),
    "a border": (four(T.Resize(200)), "CenterCrop(224) is larger than Resize(200) and so adds a border"),
    "a crop that is not square": (four(crop=T.CenterCrop((224, 192))), "CenterCrop([224, 192]) is not square"),
    "pixels": (four(floats=T.PILToTensor(), normalise=nn.Identity()), "it returns uint8"),
    "float16": (four(floats=v2.Compose([v2.ToImage(), v2.ToDtype(torch.float16)])), "to torch.float16, not to"),
    "a dict of formats": (four(floats=v2.ToDtype({torch.Tensor: torch.float32, "others": None})), "not to torch.float"),
    "floats resized": (T.Compose([T.ToTensor(), T.Resize(256)]), "it resizes floats; put Resize before"),
    "a tensor resized otherwise": (T.Compose([T.PILToTensor(), T.Resize(256, antialias=None)]), "antialias=None"),
    "two channels": (four(normalise=T.Normalize([0.5] * 2, [0.5] * 2)), "Normalize has 2 channels"),
    "settings that no class checks": (four(v2.Resize(256, "cubic")), "its steps cannot be read: "),
    "no transform at all": (Image.new("RGB", (1, 1)), "Image is not a step of the fast path"),
    "a preset for detection": (
        models.detection.SSDLite320_MobileNet_V3_Large_Weights.DEFAULT.transforms(),
        "ObjectDetection is not a step of the fast path",
    ),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_anything_else_is_not_read(name: str) -> None:
    """The reason names the step, and the way out where there is one."""
    transform, reason = NOT_READ[name]
    found = read_steps(transform)
    assert isinstance(found, Unrecognised)
    assert reason in found.reason


def test_the_transforms_of_timm_are_read() -> None:
    """`create_transform` is read where it keeps proportions, and the numbers are those of the model's page."""
    create: Callable[..., Any] = pytest.importorskip("timm.data", reason="darkroom[timm] has it").create_transform
    settings = {"input_size": (3, 240, 240), "crop_pct": 0.9, "interpolation": "bicubic"}
    assert read_steps(create(**settings)) == Recognised(Preprocess(266, 240, "bicubic"))
    squashed = Preprocess(266, 240, "bicubic", squash=True)
    assert read_steps(create(**settings, crop_mode="squash")) == Recognised(squashed)
    assert isinstance(read_steps(create(**settings, crop_mode="border")), Unrecognised)
    assert isinstance(read_steps(create(**settings, is_training=True)), Unrecognised)
