"""What the model costs, on the CPU and on CUDA."""

import math

import pytest
import torch

from benchmarks.photographs import jpeg, photograph
from pipeline.config import PipelineConfig
from pipeline.device import open_device
from pipeline.model import load_model
from tests.kinds import needs_gpu
from tuning import computing
from tuning.computing import SIZES, Model, _opened

IMAGES = [jpeg(photograph(name)) for name in ("cat", "rocket")]
MAX_PIXELS = 50_000_000


@pytest.mark.parametrize(
    "kind", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, needs_gpu("batches of 256 take it too long")])]
)
def test_every_size_that_is_offered_can_be_measured(kind: str) -> None:
    """Of each number of lanes; more images take longer, and the law that is fitted has no cost below 0."""
    model = Model(PipelineConfig(device=kind), 2, IMAGES, MAX_PIXELS, bound_s=1.0)
    assert list(model.lanes) == ([1, 2] if kind == "cpu" else [1])
    assert set(model.sizes) <= set(SIZES)
    for lanes in model.lanes:
        for images in model.sizes[:4]:  # fewer where larger ones do not pay
            model.measure(lanes, images, 0.05)
    cost, once = model.cost, len(model.cost.batches[1, 1])
    model.measure(1, 1, 0.05)
    assert len(cost.batches[1, 1]) > once  # a second look adds to the first
    assert (cost.lanes, cost.sizes) == (list(model.lanes), model.sizes[:4])
    assert cost.seconds(1, cost.sizes[-1]) > cost.seconds(1, 1)
    assert cost.rate(1, 2) == pytest.approx(2 / cost.seconds(1, 2))
    assert min(fit.each_s for fit in cost.fits().values()) >= 0
    assert 0.2 < model.speed(0.2) < 5  # the same machine, a moment later
    model.close()


def test_batches_that_do_not_fit_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of a GPU ends with an error; the sizes below the one that did not fit are offered."""
    really = open_device

    def with_room_for_4(kind: str, classifier: object, *, batch_sizes: tuple[int, ...], **options: int) -> object:
        if batch_sizes[-1] > 4:
            raise torch.OutOfMemoryError("no room")
        return really(kind, classifier, batch_sizes=batch_sizes, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(computing, "open_device", with_room_for_4)
    monkeypatch.setattr("pipeline.device._HOPELESS", math.inf)  # a size may seem so while something else computes
    config = PipelineConfig(device="cpu")
    _, sizes = _opened(config, load_model(config), 1, bound_s=60.0)
    assert sizes == [1, 2, 4]


def test_batches_that_cannot_be_within_the_bound_are_not_tried() -> None:
    """On a CPU the largest would take seconds, with a large model minutes; the smallest is always there."""
    config = PipelineConfig(device="cpu")
    loaded = load_model(config)
    sizes = [_opened(config, loaded, 1, bound_s)[1] for bound_s in (1e-6, 0.02)]
    assert sizes[0] == [1]
    assert max(sizes[1]) < SIZES[-1]
