"""Tests of torchvision's detectors by name: they find what the model alone finds, by torchvision's documentation."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from harness.photographs import photograph
from harness.seeded_models import detections_alone, seeded_file, untrained
from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.images.decode import decode_image
from pipeline.images.geometry import Geometry
from pipeline.model.detect import Detections
from pipeline.model.resize_to_fit import Fit
from pipeline.model.served import ServedModel
from pipeline.model.torchvision_detector import torchvision_detector
from tests.support.image_files import with_orientation

EXACT = PipelineConfig(decode="exact")
LABELS = ("__background__", "cat", "dog", "bird")
FASTER, SSD = "fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"


def load(folder: Path, model: str, **settings: object) -> ServedModel:
    """Load a model with seeded weights and four classes from files in a folder."""
    (folder / "labels.txt").write_text("\n".join(LABELS))
    path = seeded_file(folder, model, len(LABELS))
    given = {"model": model, "weights": str(path), "labels": str(folder / "labels.txt"), "decode": "exact"}
    return torchvision_detector(PipelineConfig.model_validate(given | settings))


def found_in(served: ServedModel, images: Sequence[Image.Image], orientations: Sequence[int]) -> list[Detections]:
    """Run the model on files of the images, one after another, as the workers and the device do."""
    transform = cast(Fit, served.transform).in_workers(EXACT)
    results = []
    for image, orientation in zip(images, orientations, strict=True):
        decoded = decode_image(memoryview(with_orientation(image, orientation, "PNG")), transform, 10**6)
        geometry = Geometry(decoded.width, decoded.height, decoded.orientation, transform)
        with torch.inference_mode():
            pixels = torch.from_numpy(np.array(decoded.pixels)).permute(2, 0, 1)
            results += served.head.results(served.head.on_device(served.module.eval()([pixels])), [geometry])
    return results


def test_images_stretched_to_one_size_give_what_the_model_alone_finds(tmp_path: Path) -> None:
    """Boxes are within a hundredth of a pixel, scores within 1e-4, and labels equal: only floats round differently."""
    images = [photograph("cat").resize((451, 300)), photograph("temple").resize((300, 700))]
    served = load(tmp_path, SSD)
    for image, found in zip(images, found_in(served, images, [1, 6]), strict=True):
        boxes, scores, classes = detections_alone(SSD, len(LABELS), image)
        assert len(found.scores) == len(scores) > 20
        np.testing.assert_allclose(found.upright_boxes, boxes, atol=0.01)
        np.testing.assert_allclose(found.scores, scores, atol=1e-4)
        assert list(found.indices) == classes
        assert found.labels[0] == LABELS[classes[0]]


def test_torchvisions_own_weights_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read from torch's folder, and have torchvision's names of COCO's classes."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    seeded_file(folder, SSD, 91).rename(folder / "ssdlite320_mobilenet_v3_large_coco-a79551df.pth")
    served = torchvision_detector(PipelineConfig(model=SSD, weights="COCO_V1"))
    assert served.weights_from == "SSDLite320_MobileNet_V3_Large_Weights.COCO_V1"
    assert served.head.labels[:3] == ("__background__", "person", "bicycle")
    assert str(served.transform) == "stretched to 320 x 320, bilinear"


def test_resize_px_sets_the_shorter_side(tmp_path: Path) -> None:
    served = load(tmp_path, FASTER, resize_px=200)
    assert str(served.transform) == "resized to fit, shorter side 200, longer side 400 at most, bilinear"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_px": 224}, "^crop_px: 224 is a setting of classifiers"),
        ({"mean": (0.5, 0.5, 0.5)}, r"^mean: \[0.5, 0.5, 0.5\] is a setting of classifiers"),
        ({"dtype": "bfloat16"}, "^dtype: bfloat16 is not for model"),
        ({"model": SSD, "resize_px": 300}, "^resize_px: 300: model: ssdlite320.* images of one size, 320 x 320"),
        ({"weights": "IMAGENET1K_V1"}, "^weights: faster.* has no weights IMAGENET1K_V1; write COCO_V1 or DEFAULT"),
        ({"labels": None}, "do not fit model: .* with 91 classes: .* instead of "),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=message):
        load(tmp_path, **{"model": FASTER} | settings)  # type: ignore[arg-type]


def test_weights_with_nan_are_refused(tmp_path: Path) -> None:
    """A detector with such weights finds nothing, so no score of a test image would tell."""
    path = seeded_file(tmp_path, SSD, len(LABELS))
    state = torch.load(path)
    state["backbone.features.0.0.0.weight"][0] = float("nan")
    torch.save(state, path)
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    with pytest.raises(InvalidModel, match=r"the tensor backbone.features.0.0.0.weight holds NaN or infinity"):
        torchvision_detector(PipelineConfig(model=SSD, weights=str(path), labels=str(tmp_path / "labels.txt")))


def test_only_the_boxes_of_other_models_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mask R-CNN and Keypoint R-CNN serve their boxes, and compute nothing else."""
    for model in ("maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn"):
        with torch.device("meta"):
            module: nn.Module = untrained(model, 2)
        monkeypatch.setattr(
            "pipeline.model.torchvision_weights.from_file", lambda *_, module=module: (module, "a file")
        )
        monkeypatch.setattr("pipeline.model.torchvision_detector.first_nonfinite", lambda _: None)
        served = torchvision_detector(PipelineConfig(model=model, weights="./none.pth"))
        roi_heads = served.module.roi_heads
        assert not roi_heads.has_mask()  # type: ignore[operator, union-attr]
        assert not roi_heads.has_keypoint()  # type: ignore[operator, union-attr]
