"""Tests of the head of a detector."""

import pytest
import torch
from torch import Tensor

from pipeline.images.geometry import Geometry
from pipeline.model.detect import Detect, Detections
from pipeline.records import FitTransform

FIT = FitTransform(100, 200, None, "torch", "exact", ("JPEG",))
UPRIGHT, ON_ITS_SIDE = Geometry(400, 200, 1, FIT), Geometry(200, 400, 6, FIT)  # both become 200 x 100


def found(*scores: float) -> dict[str, Tensor]:
    """Return one box for each score; the classes are 1, 2, ..."""
    boxes = torch.tensor([[10.0, 20.0, 30.0, 60.0]]).repeat(len(scores), 1)
    return {"boxes": boxes, "scores": torch.tensor(scores), "labels": torch.arange(1, len(scores) + 1)}


def results(*outputs: dict[str, Tensor]) -> list[Detections]:
    head = Detect(("background", "cat", "dog"))
    places = [UPRIGHT, ON_ITS_SIDE, UPRIGHT][: len(outputs)]
    return head.results(head.on_device(outputs), places)


def test_boxes_are_in_pixels_of_the_image_as_sent() -> None:
    """The image on its side is turned clockwise by a viewer: its left side is upright the top."""
    upright, on_its_side = results(found(0.9), found(0.9))
    assert upright.as_json(0.5) == {
        "detections": [
            {"label": "cat", "index": 1, "score": pytest.approx(0.9), "box": [20.0, 40.0, 60.0, 120.0]},
        ]
    }
    assert on_its_side.as_json(0.5)["detections"][0]["box"] == [40.0, 340.0, 120.0, 380.0]
    assert on_its_side.upright_boxes.tolist() == [[20.0, 40.0, 60.0, 120.0]]


def test_images_with_any_number_of_objects_share_a_batch() -> None:
    """Each image gets its own objects, highest score first, and none of the padding."""
    first, none, second = results(found(0.3, 0.8, 0.5), found(), found(0.4))
    assert first.labels == ("dog", "class 3", "cat")
    assert first.scores == pytest.approx((0.8, 0.5, 0.3))
    assert none.as_json(0.0) == {"detections": []}
    assert second.labels == ("cat",)
    assert [each["label"] for each in first.as_json(0.5)["detections"]] == ["dog", "class 3"]


def test_a_batch_without_objects_has_rows_too() -> None:
    rows = Detect(()).on_device([found(), found()])
    assert {name: [*tensor.shape] for name, tensor in rows.items()} == {
        "boxes": [2, 1, 4],
        "scores": [2, 1],
        "classes": [2, 1],
        "found": [2],
    }


def test_people_and_programs_can_read_a_row() -> None:
    one, none = results(found(0.9), found())
    assert one.lines(0.5) == ["  90.0%  cat  at 20 40 60 120"]
    assert none.lines(0.5) == ["      -  nothing with a score of 0.5 or more"]
    assert one.cells(0.95) == ["[]"]
    assert len(one.cells(0.5)) == len(Detect(()).columns(0.5))


@pytest.mark.parametrize("outputs", [torch.zeros(2, 5), [found(0.5)], [{"boxes": torch.zeros(1, 4)}] * 2], ids=str)
def test_outputs_of_another_model_are_refused(outputs: object) -> None:
    with pytest.raises(ValueError, match="must return a list of 2 dicts with boxes, scores, labels for 2 images"):
        Detect(()).check(outputs, 2)
