"""Tests of random inputs: each gets a prediction or its own rejection, and no neighbour or worker is affected."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.photographs import jpeg, photograph
from pipeline.config import PipelineConfig
from pipeline.engine import Engine
from pipeline.errors import DecoderCrashed, DecodeTimeout, TooMuchMemory
from pipeline.model.classify import Classify
from pipeline.model.served import Preprocess, ServedModel
from pipeline.records import Outcome, Prediction
from tests.conftest import PIPELINE
from tests.support.image_files import ODD_BUT_GOOD

CAT = jpeg(photograph("cat"))
COLOURS = ("red", "green", "blue")
CONFIG: PipelineConfig = PIPELINE.model_copy(update={"max_top_k": len(COLOURS)})
FILES = tuple(ODD_BUT_GOOD.values())


def _is_fair(outcome: Outcome) -> bool:
    """Return whether an outcome is a prediction or blames the image itself, without a crash or a timeout."""
    return isinstance(outcome, Prediction) or not isinstance(
        outcome.error, DecoderCrashed | DecodeTimeout | TooMuchMemory
    )


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a real file that is cut, spliced with another, and has flipped bytes."""
    file, other = draw(st.sampled_from(FILES)), draw(st.sampled_from(FILES))
    start, end = sorted(draw(st.tuples(st.integers(0, len(file)), st.integers(0, len(file)))))
    where = draw(st.integers(0, len(other)))
    spliced = draw(st.sampled_from([file, file[:end], file[:start] + file[end:], file[:end] + other[where:]]))
    flipped = bytearray(spliced)
    for _ in range(draw(st.integers(0, 8)) if flipped else 0):
        flipped[draw(st.integers(0, min(len(flipped), draw(st.sampled_from([40, len(flipped)]))) - 1))] ^= draw(
            st.integers(1, 255)
        )
    return bytes(flipped)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Return an engine with the shipped sizes, whose model takes next to no time: it scores the mean of each colour."""
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    with Engine(CONFIG, model=ServedModel(network, Preprocess(256, 224), Classify(COLOURS))) as engine:
        yield engine


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(images=st.lists(damaged().filter(bool), min_size=1, max_size=4))
def test_damaged_files_leave_their_neighbours(engine: Engine, images: list[bytes]) -> None:
    """Damaged files, whatever the damage, leave their neighbours and the workers as they are."""
    workers, (alone,) = engine.worker_pids, engine.infer([CAT])
    *outcomes, cat = engine.infer([*images, CAT])
    assert all(_is_fair(outcome) for outcome in outcomes)
    assert isinstance(cat, Prediction)
    assert isinstance(alone, Prediction)
    assert cat.result.labels == alone.result.labels
    assert cat.result.scores == pytest.approx(alone.result.scores, abs=1e-5)
    assert engine.worker_pids == workers
