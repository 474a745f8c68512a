"""Any input whatever gets a prediction or a rejection of its own; no neighbour and no worker notices."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.photographs import jpeg, photograph
from pipeline.config import PipelineConfig
from pipeline.engine import Engine
from pipeline.errors import TooManyPixels, UndecodableImage, UnsupportedFormat
from pipeline.records import Outcome, Prediction, Rejection
from tests.conftest import PIPELINE
from tests.faults.odd_files import odd_files
from tests.files import ODD_BUT_GOOD

CAT = jpeg(photograph("cat"))
FILES = tuple(ODD_BUT_GOOD.values())


def _is_fair(outcome: Outcome) -> bool:
    """A prediction, or what is wrong with the image itself: not that it ended or hung a process."""
    return isinstance(outcome, Prediction) or isinstance(
        outcome.error, UnsupportedFormat | UndecodableImage | TooManyPixels
    )


@pytest.fixture(scope="module", params=["fast", "exact"])
def broad(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine that serves every format that can be served."""
    update = {"decode": request.param, "formats": ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"), "max_top_k": 1}
    with Engine(PipelineConfig.model_validate(PIPELINE.model_dump() | update)) as engine:
        yield engine


def test_the_odd_files_of_pillows_own_tests(broad: Engine) -> None:
    """Among good images, each of which gets what it gets alone; no worker is lost over any of them."""
    files, workers = odd_files(), broad.worker_pids
    alone = broad.infer([CAT])
    outcomes: dict[str, Outcome] = {}
    names = [*files]
    for group in (names[n : n + 8] for n in range(0, len(names), 8)):
        *odd, cat = broad.infer([*(files[name] for name in group), CAT])
        outcomes |= zip(group, odd, strict=True)
        assert _labels([cat]) == _labels(alone)
    assert len(outcomes) > 1000
    assert [name for name, outcome in outcomes.items() if not _is_fair(outcome)] == []
    assert sum(isinstance(outcome, Prediction) for outcome in outcomes.values()) > 500
    assert broad.worker_pids == workers


def _labels(outcomes: list[Outcome]) -> list[tuple[str, ...]]:
    return [outcome.labels for outcome in outcomes if isinstance(outcome, Prediction)]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real file cut, spliced with another, and with bytes flipped."""
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


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(images=st.lists(damaged().filter(bool), min_size=1, max_size=4))
def test_damaged_files_leave_their_neighbours(engine: Engine, images: list[bytes]) -> None:
    """Whatever has become of a real file on its way."""
    workers = engine.worker_pids
    *outcomes, cat = engine.infer([*images, CAT])
    assert all(_is_fair(outcome) for outcome in outcomes)
    assert not isinstance(cat, Rejection)
    assert cat.labels[0] == "Egyptian cat"
    assert engine.worker_pids == workers
