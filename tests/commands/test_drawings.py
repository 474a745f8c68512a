"""Tests of drawn copies: boxes, areas and captions lie where the model sees them, and no file is overwritten."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands.drawing_folder import names_of_copies, prepare_folder
from commands.drawings import Drawings, colour_of, drawn
from commands.files import NothingToDo
from commands.output import OutputFailed
from pipeline.config import PipelineConfig
from pipeline.images.geometry import Geometry
from pipeline.model.classify import Classification
from pipeline.model.detect import Detections
from pipeline.model.segment import Segmentation
from pipeline.records import FitTransform, Prediction
from tests.support.image_files import with_orientation

FIT = FitTransform(100, 150, None, "pillow", "fast", ("JPEG",))
GREY = (128, 128, 128)


def grey() -> Image.Image:
    return Image.new("RGB", (300, 200), GREY)


def detections(orientation: int = 1) -> Prediction:
    """Return two objects in an image of 300 x 200, whose input has half that size; one has a low score."""
    boxes = np.array([[50, 40, 100, 80], [0, 0, 20, 20]], np.float32)
    size = (200, 300) if orientation > 4 else (300, 200)
    return Prediction(Detections(("cat", "dog"), (1, 2), (0.9, 0.1), boxes, Geometry(*size, orientation, FIT)))


def test_boxes_are_drawn_round_the_objects() -> None:
    pixels = np.asarray(drawn(grey(), detections(), {"score_threshold": 0.5}))
    framed = np.argwhere((pixels == colour_of(1)).all(2))
    assert framed.max(0).tolist() == [159, 199]
    assert (pixels[100:150, 110:190] == GREY).all()
    assert (pixels[:40, :40] == GREY).all()


def test_areas_have_the_colours_of_their_classes_and_the_background_none() -> None:
    mask = np.zeros((100, 150), np.uint8)
    mask[60:, 100:] = 2
    found = Segmentation(mask, ("__background__", "cat", "dog"), Geometry(300, 200, 1, FIT))
    pixels = np.asarray(drawn(grey(), Prediction(found), {}))
    expected = [round((128 + part) / 2) for part in colour_of(2)]
    np.testing.assert_allclose(pixels[125:, 205:].reshape(-1, 3), [expected] * 75 * 95, atol=2)
    assert (pixels[125:, :195] == GREY).all()


def test_a_class_is_written_as_a_caption() -> None:
    found = Prediction(Classification(("tabby",), (281,), (0.9,)))
    pixels = np.asarray(drawn(grey(), found, {"top_k": 1}))
    assert (pixels[:10, :30] < 50).any()
    assert (pixels[100:] == GREY).all()


def test_a_picture_on_its_side_is_drawn_upright(tmp_path: Path) -> None:
    file = tmp_path / "cat.jpg"
    file.write_bytes(with_orientation(grey(), 6))
    out = tmp_path / "out"
    prepare_folder(out)
    drawings = Drawings(out, [str(file)], PipelineConfig(), 1 << 20, {"score_threshold": 0.5})
    drawings.draw(str(file), detections(orientation=6))
    with Image.open(out / "cat.jpg") as copy:
        assert copy.size == (300, 200)
        assert copy.getexif().get(0x0112, 1) == 1
    with pytest.raises(OutputFailed, match=r"cannot write .*cat.jpg: File exists"):
        drawings.draw(str(file), detections(orientation=6))
    file.unlink()
    with pytest.raises(OutputFailed, match=r"cannot draw .*cat.jpg, which has changed: it cannot be read"):
        drawings.draw(str(file), detections(orientation=6))


def test_every_copy_has_a_name_of_its_own() -> None:
    files = ["a/cat.png", "b/cat.webp", "CAT.jpg", "cat-2.jpg", "x" * 250, "\udcff.jpg"]
    names = names_of_copies(files)
    assert list(names.values())[:4] == ["cat.jpg", "cat-2.jpg", "CAT-3.jpg", "cat-2-2.jpg"]
    assert len({name.lower() for name in names.values()}) == len(files)
    assert len(names["x" * 250]) == 204


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").touch()
    with pytest.raises(NothingToDo, match="is not empty; give --draw a new folder"):
        prepare_folder(tmp_path)
    with pytest.raises(NothingToDo, match=r"cannot write to .*: (File exists|Not a directory)"):
        prepare_folder(tmp_path / "cat.jpg")
