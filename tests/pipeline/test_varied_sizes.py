"""Tests of images of different sizes in one engine: every answer is that of the model alone, whatever is beside it.

The models have seeded random weights; torchvision's documentation says how they are used alone.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.photographs import photograph
from pipeline.config import PipelineConfig
from pipeline.engine import Engine
from pipeline.model.detect import Detections
from pipeline.model.fit import Fit
from pipeline.model.segment import Segmentation
from pipeline.records import Prediction, Rejection
from tests.support.image_files import as_stored, with_orientation
from tests.support.seeded_models import detections_alone, mask_alone, seeded_file

CLASSES = 4
DETECTOR, SEGMENTER = "fasterrcnn_mobilenet_v3_large_320_fpn", "lraspp_mobilenet_v3_large"
SEGMENTER_PX = 160

IMAGES = [
    (photograph("cat").resize((451, 300)), 1),
    (photograph("temple").resize((300, 700)), 6),
    (photograph("cat").resize((640, 200)), 3),
]
"""Upright images, and the EXIF orientations with which they are sent."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("models")
    (folder / "labels.txt").write_text("background\ncat\ndog\nbird\n")
    return folder


def engine_of(model: str, folder: Path, **settings: object) -> Engine:
    given: dict[str, object] = {
        "model": model,
        "weights": str(seeded_file(folder, model, CLASSES)),
        "decode": "exact",
        "device": "cpu",
    }
    given |= {"labels": str(folder / "labels.txt"), "batch_sizes": (1, 4), "slots": 16, "spare_workers": 0}
    return Engine(PipelineConfig.model_validate(given | {"concurrent_batches": 1} | settings))


@pytest.fixture(scope="module")
def detecting(folder: Path) -> Iterator[Engine]:
    with engine_of(DETECTOR, folder) as engine:
        yield engine


@pytest.fixture(scope="module")
def segmenting(folder: Path) -> Iterator[Engine]:
    with engine_of(SEGMENTER, folder, resize_px=SEGMENTER_PX) as engine:
        yield engine


def results(engine: Engine) -> list[object]:
    """Sends all images with a broken one among them; returns the results of the others."""
    files = [with_orientation(image, orientation, "PNG") for image, orientation in IMAGES]
    outcomes = engine.infer([files[0], b"broken", *files[1:]])
    assert isinstance(outcomes[1], Rejection)
    good = [outcome for outcome in outcomes if isinstance(outcome, Prediction)]
    assert len(good) == len(IMAGES)
    return [outcome.result for outcome in good]


def test_detections_are_those_of_the_model_alone(detecting: Engine) -> None:
    """Boxes are within a tenth of a pixel and scores within 0.001: floats round differently, nothing else differs."""
    for (image, _), found in zip(IMAGES, results(detecting), strict=True):
        boxes, scores, classes = detections_alone(DETECTOR, CLASSES, image)
        assert isinstance(found, Detections)
        assert len(found.scores) == len(scores) > 20
        np.testing.assert_allclose(found.upright_boxes, boxes, atol=0.1)
        np.testing.assert_allclose(found.scores, scores, atol=1e-3)
        assert list(found.indices) == classes


def test_masks_are_those_of_the_model_alone(segmenting: Engine) -> None:
    """At least 99.9 % of the pixels are equal, and the PNG has the size of the stored image and lies as it does."""
    for (image, orientation), found in zip(IMAGES, results(segmenting), strict=True):
        expected = mask_alone(SEGMENTER, CLASSES, image, SEGMENTER_PX)
        assert isinstance(found, Segmentation)
        assert found.input_mask.shape == expected.shape
        assert (found.input_mask == expected).mean() > 0.999
        assert len(found.classes) > 1
        enlarged = np.asarray(Image.fromarray(expected).resize(image.size, Image.Resampling.NEAREST))
        stored = as_stored(enlarged, orientation)
        assert found.mask.size == stored.shape[::-1]
        assert (np.asarray(found.mask) == stored).mean() > 0.99


@pytest.mark.parametrize(("decode", "count"), [("fast", 167), ("exact", 64)])
def test_there_are_fewer_slots_where_inputs_are_large(decode: str, count: int) -> None:
    """Slots take 512 MiB at most, and more only if two of the largest batches need it."""
    config = PipelineConfig.model_validate({"decode": decode})
    assert Engine(config)._slots(Fit(800, 1333).input_spec(config)).count == count
