"""Tests of the head of a segmentation model."""

import base64
import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.images.geometry import Geometry
from pipeline.model.segment import Segment, Segmentation
from pipeline.records import FitTransform, Transform
from tests.support.image_files import as_stored

FIT = FitTransform(20, 80, None, "pillow", "exact", ("JPEG",))
LABELS = ("background", "cat", "dog")


def logits(classes: int = 3) -> Tensor:
    """Return the logits of an input of 30 x 20 pixels: class 1 in the left half, 2 in a corner, else 0."""
    mask = torch.zeros(20, 30, dtype=torch.int64)
    mask[:, :15] = 1
    mask[:5, :5] = classes - 1
    return torch.nn.functional.one_hot(mask, classes).permute(2, 0, 1).float()


def result(output: Tensor, geometry: Geometry) -> Segmentation:
    head = Segment(LABELS)
    return head.results(head.on_device([output]), [geometry])[0]


def png(found: Segmentation) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(base64.b64decode(found.as_json()["mask"])))
    assert image.format == "PNG"
    return np.asarray(image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_mask_lies_on_the_image_as_sent(orientation: int) -> None:
    """The PNG has the size of the stored image and lies as its pixels do."""
    upright = logits().argmax(0).numpy().astype(np.uint8).repeat(10, 0).repeat(10, 1)
    expected = as_stored(upright, orientation)
    found = result(logits(), Geometry(expected.shape[1], expected.shape[0], orientation, FIT))
    np.testing.assert_array_equal(png(found), expected)
    np.testing.assert_array_equal(np.asarray(found.upright_mask), upright)


def test_images_of_different_sizes_share_a_batch() -> None:
    """Each image gets the mask of its own size, whatever the output's form."""
    head = Segment(LABELS)
    wide, high = logits(), logits().transpose(1, 2)
    one, two = head.results(head.on_device([wide, high]), [Geometry(300, 200, 1, FIT), Geometry(200, 300, 1, FIT)])
    assert torch.equal(torch.from_numpy(one.input_mask), wide.argmax(0).byte())
    assert torch.equal(torch.from_numpy(two.input_mask), high.argmax(0).byte())
    stacked = head.on_device({"out": torch.stack([wide, wide])})
    assert torch.equal(stacked["masks"][1], wide.argmax(0).byte())


def test_classes_are_named_with_their_share() -> None:
    found = result(logits(), Geometry(300, 200, 1, FIT))
    assert [(each["label"], each["index"]) for each in found.classes] == [("background", 0), ("cat", 1), ("dog", 2)]
    assert [each["share"] for each in found.classes] == pytest.approx([300 / 600, 275 / 600, 25 / 600])
    assert found.lines()[0] == "  50.0%  background"
    assert len(found.cells()) == len(Segment(LABELS).columns())


def test_a_mask_of_many_classes_has_16_bits() -> None:
    found = result(logits(400), Geometry(300, 200, 1, FIT))
    assert sorted({*png(found).flatten().tolist()}) == [0, 1, 399]
    assert {each["label"] for each in found.classes} == {"background", "cat", "class 399"}


def test_pixels_outside_a_crop_have_the_highest_value() -> None:
    found = result(logits()[:, :, :20], Geometry(300, 200, 1, Transform(20, 20, "bilinear", "exact", ("JPEG",))))
    pixels = png(found)
    assert (pixels[:, :50] == 255).all()
    assert (pixels[:, 250:] == 255).all()
    np.testing.assert_array_equal(pixels[5::10, 55:250:10], logits()[:, :, :20].argmax(0))


def test_one_logit_a_pixel_tells_two_classes() -> None:
    found = result(torch.tensor([[[-1.0, 2.0]]]), Geometry(2, 1, 1, FitTransform(1, 2, None, "pillow", "exact", ())))
    assert found.input_mask.tolist() == [[0, 1]]


def test_an_image_with_nan_is_found() -> None:
    broken = logits()
    broken[1, 3, 4] = float("nan")
    peaks = Segment(LABELS).on_device([logits(), broken])["peaks"]
    assert peaks.isfinite().tolist() == [True, False]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (torch.zeros(2, 3), "must return logits, float"),
        ({"aux": logits()[None]}, "must return logits, float"),
        ([logits()], "must return logits, float"),
        (logits(4).repeat(2, 1, 1, 1), "there are 3 labels, and the module returns 4 classes"),
    ],
    ids=str,
)
def test_outputs_of_another_model_are_refused(outputs: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Segment(LABELS).check(outputs, 2)
    Segment(LABELS).check({"out": logits().repeat(2, 1, 1, 1)}, 2)
