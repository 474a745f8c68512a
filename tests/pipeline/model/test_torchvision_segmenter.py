"""Tests of torchvision's segmentation models by name: settings, labels and weights."""

from pathlib import Path

import pytest
import torch

from harness.seeded_models import seeded_file, seeded_model
from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model.served import ServedModel
from pipeline.model.torchvision_segmenter import torchvision_segmenter

LRASPP, DEEPLAB = "lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"
LABELS = ("background", "cat", "dog")


def load(folder: Path, model: str = LRASPP, **settings: object) -> ServedModel:
    """Load a model with seeded weights and three classes from files in a folder."""
    (folder / "labels.txt").write_text("\n".join(LABELS))
    given = {"model": model, "weights": str(seeded_file(folder, model, 3)), "labels": str(folder / "labels.txt")}
    return torchvision_segmenter(PipelineConfig.model_validate(given | settings))


def test_the_module_computes_logits_of_a_list_of_images(tmp_path: Path) -> None:
    """Normalisation is part of the module; a file may lack the second output, which serves the training alone."""
    served = load(tmp_path, DEEPLAB)
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        expected = seeded_model(DEEPLAB, 3)((images - mean) / std)["out"]
        found = served.module.eval()([*images])
    torch.testing.assert_close(torch.stack(found), expected)
    assert served.head.labels == LABELS
    assert str(served.transform) == "resized to fit, shorter side 520, longer side 2080 at most, bilinear"


def test_torchvisions_own_weights_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read from torch's folder, and have torchvision's names of the classes."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    seeded_file(folder, LRASPP, 21).rename(folder / "lraspp_mobilenet_v3_large-d234d4ea.pth")
    served = torchvision_segmenter(PipelineConfig(model=LRASPP, weights="DEFAULT", resize_px=260))
    assert served.weights_from == "LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1"
    assert served.head.labels[:2] == ("__background__", "aeroplane")
    assert not served.transform_is_assumed
    assert str(served.transform).startswith("resized to fit, shorter side 260")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_px": 224}, "^crop_px: 224 is a setting of classifiers; model: lraspp.* is a segmentation model"),
        ({"dtype": "float16"}, "^dtype: float16 is not for model"),
        ({"weights": "V9"}, "^weights: lraspp.* has no weights V9; write COCO_WITH_VOC_LABELS_V1 or DEFAULT"),
        ({"labels": None}, "do not fit model: .* with 21 classes: "),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=message):
        load(tmp_path, **settings)  # type: ignore[arg-type]
