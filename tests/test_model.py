"""Name and weights -> one module, its labels and the transform before it."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision import models

from benchmarks.photographs import photograph
from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model import DTYPES, Classifier, load_model
from pipeline.records import Transform
from tests.answers import CAT_LABELS
from tests.test_decode import by_torchvision

MODEL = "squeezenet1_1"  # the smallest that has no batch norm
PIXELS = torch.from_numpy(by_torchvision(photograph("cat")).copy())[None]

State = dict[str, Tensor]


def load(**settings: Any) -> Any:
    """The loaded model of a configuration for the CPU."""
    return load_model(PipelineConfig(device="cpu", **settings))


def trained(model: str = MODEL, classes: int = 5) -> tuple[nn.Module, State]:
    """A model that somebody else has trained, and its state dict."""
    torch.manual_seed(7)
    module: nn.Module = models.get_model(model, weights=None, num_classes=classes).eval()
    return module, module.state_dict()


def logits_of(backbone: nn.Module, state: State) -> Tensor:
    backbone.load_state_dict(state)
    with torch.inference_mode():
        logits: Tensor = backbone(PIXELS.permute(0, 3, 1, 2) / 255)
    return logits


# ---- by name --------------------------------------------------------------------------------------------------------


def test_a_model_by_name_is_torchvisions() -> None:
    """Labels, transform and scores: those of the weights, whose reference is computed here by torchvision alone."""
    weights = models.MobileNet_V2_Weights.IMAGENET1K_V1
    loaded = load(max_top_k=1000)
    assert loaded.labels == tuple(weights.meta["categories"])
    assert loaded.transform == Transform(256, 224, "bilinear", "fast", ("JPEG", "PNG", "WEBP"))
    with torch.inference_mode():
        scores, classes = loaded.classifier(PIXELS)
        batch = weights.transforms()(photograph("cat"))[None]
        expected = models.mobilenet_v2(weights=weights).eval()(batch).softmax(1)
    torch.testing.assert_close(scores, expected.gather(1, classes), atol=1e-4, rtol=0)
    assert scores[0].tolist() == sorted(scores[0].tolist(), reverse=True)
    assert loaded.labels[classes[0, 0]] in CAT_LABELS


def test_a_model_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidModel, match=r"^model: resnet17 is no classification model of torchvision's$"):
        load(model="resnet17")


def test_a_model_that_does_something_else_is_refused() -> None:
    with pytest.raises(InvalidModel, match=r"^model: fasterrcnn_resnet50_fpn is no classification model"):
        load(model="fasterrcnn_resnet50_fpn")


def test_weights_that_do_not_exist_are_refused() -> None:
    """The message lists those that do."""
    with pytest.raises(
        InvalidModel, match=r"weights: V9 are none of mobilenet_v2's; write IMAGENET1K_V1, IMAGENET1K_V2, or"
    ):
        load(weights="V9")


def test_weights_of_another_model_by_name_are_refused() -> None:
    with pytest.raises(InvalidModel, match=r"^weights: IMAGENET1K_V1 are none of vit_h_14's; write IMAGENET1K_SWAG"):
        load(model="vit_h_14")


def test_weights_that_cannot_be_fetched_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the folder where the file can be put by hand."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        proxy = "http://{}:{}".format(*closed.getsockname())
    monkeypatch.setenv("https_proxy", proxy)  # where nobody listens any more
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        InvalidModel, match=rf"IMAGENET1K_V1 of {MODEL} are not in {tmp_path}/hub/checkpoints and cannot"
    ):
        load(model=MODEL)


@pytest.mark.parametrize("content", [b"", b"not found", b"PK\3\4 torn", b"\x80\2]q\0."], ids=repr)
def test_damaged_weights_are_refused(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the checkpoint folder: what a broken download, or a proxy's error page, leaves there."""
    name = models.MobileNet_V2_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / name).write_bytes(content)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InvalidModel, match=r"^weights: IMAGENET1K_V1 of mobilenet_v2 are not in"):
        load()


# ---- from a file ----------------------------------------------------------------------------------------------------


def as_checkpoint(state: State) -> dict[str, Any]:
    return {"epoch": 3, "model": state, "optimizer": {"lr": 0.1}}


def as_lightning(state: State) -> dict[str, Any]:
    return {"state_dict": state, "global_step": 100}


def from_data_parallel(state: State) -> State:
    return {f"module.{name}": value for name, value in state.items()}


FORMS: dict[str, Callable[[State], dict[str, Any]]] = {
    "plain": lambda state: state,
    "checkpoint": as_checkpoint,
    "lightning": as_lightning,
    "data parallel": from_data_parallel,
    "checkpoint of data parallel": lambda state: as_checkpoint(from_data_parallel(state)),
}


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("form", FORMS)
def test_weights_are_found_in_what_training_writes(form: str, suffix: str, tmp_path: Path) -> None:
    """Whatever they are wrapped in, the backbone computes what the trained one did."""
    module, state = trained()
    path = tmp_path / f"trained{suffix}"
    torch.save(FORMS[form](state), path)
    loaded = load(model=MODEL, weights=str(path), mean=(0, 0, 0), std=(1, 1, 1))
    assert loaded.labels == tuple(f"class {index}" for index in range(5))
    expected = logits_of(module, state)
    assert loaded.classifier.backbone(PIXELS.permute(0, 3, 1, 2) / 255).allclose(expected, atol=1e-4)


@pytest.mark.parametrize("model", [MODEL, "mobilenet_v2", "resnet18"])
@pytest.mark.parametrize("form", ["plain", "data parallel"])
def test_safetensors_are_read(form: str, model: str, tmp_path: Path) -> None:
    """Their names come back in alphabetical order: the head is not the last of them."""
    _, state = trained(model)
    path = tmp_path / "trained.safetensors"
    safetensors.torch.save_file(FORMS[form](state), path)
    loaded = load(model=model, weights=str(path))
    restored = loaded.classifier.backbone.state_dict()
    assert len(loaded.labels) == 5
    assert all(restored[name].equal(value) for name, value in state.items())


def test_weights_in_half_precision_are_read(tmp_path: Path) -> None:
    _, state = trained()
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pth")
    loaded = load(model=MODEL, weights=str(tmp_path / "half.pth"))
    assert {value.dtype for value in loaded.classifier.backbone.state_dict().values()} == {torch.float32}


def test_1000_classes_from_a_file_have_the_names_of_imagenet(tmp_path: Path) -> None:
    _, state = trained(classes=1000)
    torch.save(state, tmp_path / "own.pth")
    assert load(model=MODEL, weights=str(tmp_path / "own.pth")).labels[281] == "tabby"


UNREADABLE: dict[str, Any] = {
    "empty dict": {},
    "list": [torch.zeros(1)],
    "tensor": torch.zeros(1),
    "numbers for names": {0: torch.zeros(1)},
    "text among the tensors": {"features.0.weight": torch.zeros(1), "note": "good"},
}


@pytest.mark.parametrize("content", UNREADABLE)
def test_a_file_without_a_state_dict_is_refused(content: str, tmp_path: Path) -> None:
    torch.save(UNREADABLE[content], tmp_path / "odd.pth")
    with pytest.raises(InvalidModel, match=r"^weights: .*odd\.pth holds no state dict, but a \w+$"):
        load(model=MODEL, weights=str(tmp_path / "odd.pth"))


@pytest.mark.parametrize(
    "content", [None, b"", b"text", b"PK\3\4 torn", b"\x80\2]q\0.", b"\x80\4.", b"\0" * 64], ids=repr
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_cannot_be_read_is_refused(suffix: str, content: bytes | None, tmp_path: Path) -> None:
    """Missing, empty, or torn."""
    path = tmp_path / f"torn{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidModel, match=rf"^weights: .*torn\{suffix} "):
        load(model=MODEL, weights=str(path))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    """A pickle that would write a file when it is read."""
    torch.save(Trap(tmp_path / "sprung"), tmp_path / "trap.pth")
    with pytest.raises(InvalidModel, match=r"trap\.pth cannot be read as a state dict"):
        load(model=MODEL, weights=str(tmp_path / "trap.pth"))
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """What a pickle may ask for."""
        return Path.touch, (self.path,)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    """Also where their last tensor is a bare number, or of no class at all."""
    _, state = trained("mobilenet_v2")
    headless = {name: value for name, value in state.items() if not name.startswith("classifier")}
    for content in (state, headless, {"classifier.1.weight": torch.tensor(1.0)}, {"classifier.1.bias": torch.ones(0)}):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(InvalidModel, match=rf"^weights: .*other\.pth do not fit model: {MODEL}"):
            load(model=MODEL, weights=str(tmp_path / "other.pth"))


# ---- labels and transform -------------------------------------------------------------------------------------------


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """Weights of a model with five classes."""
    torch.save(trained()[1], tmp_path / "five.pth")
    return tmp_path / "five.pth"


def test_labels_come_from_their_file(five: Path) -> None:
    """One a line, with or without an end of the last line, in UTF-8."""
    labels = five.with_name("labels.txt")
    for text in ("a\nb\nc\nd é\ne", "a\nb\nc\nd é\ne\n", "a\r\nb\r\nc\r\nd é\r\ne\r\n"):
        labels.write_bytes(text.encode())
        assert load(model=MODEL, weights=str(five), labels=str(labels)).labels == ("a", "b", "c", "d é", "e")


@pytest.mark.parametrize("lines", [0, 4, 6])
def test_labels_of_another_number_are_refused(lines: int, five: Path) -> None:
    labels = five.with_name("labels.txt")
    labels.write_text("label\n" * lines)
    with pytest.raises(InvalidModel, match=rf"labels\.txt has {lines} lines; the model has 5 classes$"):
        load(model=MODEL, weights=str(five), labels=str(labels))


@pytest.mark.parametrize("content", [None, b"\xff\xfe\0a"], ids=["missing", "not UTF-8"])
def test_labels_that_cannot_be_read_are_refused(content: bytes | None, five: Path) -> None:
    labels = five.with_name("labels.txt")
    if content is not None:
        labels.write_bytes(content)
    with pytest.raises(InvalidModel, match=r"^labels: .*labels\.txt cannot be read: "):
        load(model=MODEL, weights=str(five), labels=str(labels))


def test_the_transform_is_the_weights_own_but_for_what_is_set() -> None:
    custom = load(resize_px=300, crop_px=200, interpolation="bicubic", decode="exact", formats=("PNG",)).transform
    assert custom == Transform(300, 200, "bicubic", "exact", ("PNG",))


def test_a_larger_crop_alone_enlarges_the_resize() -> None:
    assert (load(crop_px=320).transform.resize_px, load(crop_px=320).transform.crop_px) == (320, 320)


def test_a_resize_below_the_weights_crop_is_refused() -> None:
    with pytest.raises(InvalidModel, match=r"^crop_px: 224 is larger than resize_px: 128; write crop_px as well$"):
        load(resize_px=128)


# ---- the module -----------------------------------------------------------------------------------------------------


def mean_of_channels(top_k: int, mean: tuple[float, ...] = (0, 0, 0), std: tuple[float, ...] = (1, 1, 1)) -> Classifier:
    """A model whose three logits are the means of the three normalised channels."""
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classifier(pool, mean, std, torch.float32, top_k)


def test_pixels_are_normalised_as_torchvision_does() -> None:
    """(x / 255 - mean) / std, channel by channel."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    scores, classes = mean_of_channels(3, mean, std)(PIXELS)
    means = PIXELS.double().mean((0, 1, 2)) / 255
    expected = ((means - torch.tensor(mean)) / torch.tensor(std)).softmax(0)
    torch.testing.assert_close(scores[0].double(), expected[classes[0]], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("top_k", "kept"), [(1, 1), (2, 2), (3, 3), (100, 3)])
def test_no_more_classes_are_kept_than_there_are(top_k: int, kept: int) -> None:
    """Scores are of all classes, whatever is kept."""
    scores, classes = mean_of_channels(top_k)(PIXELS.expand(2, -1, -1, -1))
    everything, _ = mean_of_channels(3)(PIXELS)
    assert scores.shape == classes.shape == (2, kept)
    assert scores[1].equal(everything[0, :kept])


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_are_float32_whatever_the_model_computes_in(dtype: str) -> None:
    """In half precision the first class is still the first, and the scores are near."""
    loaded = load(dtype=dtype)
    with torch.inference_mode():
        scores, classes = loaded.classifier(PIXELS)
        expected, first = load().classifier(PIXELS)
    assert scores.dtype == torch.float32
    assert classes[0, 0] == first[0, 0]
    assert abs(scores[0, 0] - expected[0, 0]) < 0.05
