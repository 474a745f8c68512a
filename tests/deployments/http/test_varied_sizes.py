"""Tests of images of different sizes: every answer over HTTP is that of the model alone, whatever is beside the image.

The models have seeded random weights; torchvision's documentation says how they are used alone.
"""

import asyncio
import base64
import io
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deployments.http.application import HttpApplication
from deployments.http.auth import Access
from deployments.service import InferenceService
from deployments.service_config import ServiceConfig
from harness.photographs import photograph
from harness.seeded_models import detections_alone, mask_alone, seeded_file
from pipeline.config import PipelineConfig
from pipeline.engine import Engine
from pipeline.records import EncodedImage, Outcome
from tests.support.fake_engine import FakeRecorder
from tests.support.image_files import as_stored, with_orientation

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
    given: dict[str, object] = {"model": model, "weights": str(seeded_file(folder, model, CLASSES)), "decode": "exact"}
    given |= {"labels": str(folder / "labels.txt"), "batch_sizes": (1, 4), "slots": 16, "spare_workers": 0}
    return Engine(PipelineConfig.model_validate(given | {"concurrent_batches": 1, "device": "cpu"} | settings))


@pytest.fixture(scope="module")
def detecting(folder: Path) -> Iterator[Engine]:
    with engine_of(DETECTOR, folder) as engine:
        yield engine


@pytest.fixture(scope="module")
def segmenting(folder: Path) -> Iterator[Engine]:
    with engine_of(SEGMENTER, folder, resize_px=SEGMENTER_PX) as engine:
        yield engine


def answers(engine: Engine, **parameters: str) -> list[dict[str, Any]]:
    """Send all images in one request, with a broken one among them; return the answers to the others."""

    async def submit(images: list[EncodedImage]) -> Future[list[Outcome]]:
        return engine.submit([images])[0]

    service = InferenceService(engine, submit, FakeRecorder())
    app = HttpApplication(service, ServiceConfig(), Access(None, None), dict, lambda _: {}, lambda: None).asgi()
    files = [with_orientation(image, orientation, "PNG") for image, orientation in IMAGES]
    parts = [("image", ("picture", data)) for data in (files[0], b"broken", *files[1:])]

    async def posted() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.post("/predict", files=parts, params=parameters)

    response = asyncio.run(posted())
    assert response.status_code == 200, response.text
    first, broken, *others = response.json()["results"]
    assert broken["error"]["title"] == "Unsupported format"
    return [first, *others]


def boxes_as_stored(boxes: NDArray[np.float32], size: tuple[int, int], orientation: int) -> NDArray[np.float32]:
    """Return boxes of an upright image where they lie in the pixels that a camera stores (EXIF 2.32, tag 0x0112)."""
    (left, top, right, bottom), (width, height) = boxes.T, size
    turned = {
        1: (left, top, right, bottom),
        3: (width - right, height - bottom, width - left, height - top),
        6: (top, width - right, bottom, width - left),
    }
    return np.stack(turned[orientation], axis=1)


def test_detections_are_those_of_the_model_alone(detecting: Engine) -> None:
    """Boxes are within a tenth of a pixel and scores within 0.001: floats round differently, nothing else differs."""
    for (image, orientation), answer in zip(IMAGES, answers(detecting, score_threshold="0"), strict=True):
        boxes, scores, classes = detections_alone(DETECTOR, CLASSES, image)
        found = answer["detections"]
        assert len(found) == len(scores) > 20
        expected = boxes_as_stored(boxes, image.size, orientation)
        np.testing.assert_allclose([each["box"] for each in found], expected, atol=0.1)
        np.testing.assert_allclose([each["score"] for each in found], scores, atol=1e-3)
        assert [each["index"] for each in found] == classes


def test_masks_are_those_of_the_model_alone(segmenting: Engine) -> None:
    """At least 99.9 % of the pixels are equal; the PNG has the size of the stored image and lies as its pixels do."""
    for (image, orientation), answer in zip(IMAGES, answers(segmenting), strict=True):
        expected = mask_alone(SEGMENTER, CLASSES, image, SEGMENTER_PX)
        size = image.size[::-1] if orientation == 6 else image.size
        stored = Image.fromarray(as_stored(expected, orientation)).resize(size, Image.Resampling.NEAREST)
        mask = Image.open(io.BytesIO(base64.b64decode(answer["mask"])))
        assert mask.size == size
        assert (np.asarray(mask) == np.asarray(stored)).mean() > 0.999
        shares = {each["index"]: each["share"] for each in answer["classes"]}
        assert len(shares) > 1
        for index in range(CLASSES):
            assert shares.get(index, 0) == pytest.approx((expected == index).mean(), abs=1e-3)
