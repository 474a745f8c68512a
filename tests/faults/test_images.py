"""Any input whatever gets a prediction or a rejection of its own; no neighbour and no worker notices."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.photographs import jpeg, photograph
from pipeline.engine import Engine
from pipeline.errors import DecoderCrashed, DecodeTimeout, TooMuchMemory
from pipeline.records import Outcome, Prediction, Rejection
from tests.support.image_files import ODD_BUT_GOOD

CAT = jpeg(photograph("cat"))
FILES = tuple(ODD_BUT_GOOD.values())


def _is_fair(outcome: Outcome) -> bool:
    """A prediction, or what is wrong with the image itself: not that it ended or hung a process."""
    return isinstance(outcome, Prediction) or not isinstance(
        outcome.error, DecoderCrashed | DecodeTimeout | TooMuchMemory
    )


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
    assert cat.result.labels[0] == "Egyptian cat"
    assert engine.worker_pids == workers
