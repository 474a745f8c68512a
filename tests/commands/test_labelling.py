"""Tests of labelling many files with one engine."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import labelling
from commands.labelling import Labelling
from harness.photographs import NAMES, jpeg, photograph
from pipeline.engine import Engine
from pipeline.errors import ServerError
from pipeline.records import Prediction, Rejection
from tests.support.waiting import until


@pytest.fixture
def photographs(tmp_path: Path) -> list[str]:
    """Files of real photographs, no two of them the same."""
    for name in NAMES:
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(photograph(name)))
    return [str(tmp_path / f"{name}.jpg") for name in NAMES]


def test_outcomes_come_in_order_and_each_is_its_own(engine: Engine, photographs: list[str]) -> None:
    """Outcomes come in the order of the files, with a rejection in the place of each file that cannot be read."""
    alone = [engine.infer([Path(name).read_bytes()])[0] for name in photographs]
    mixed = [name for each in photographs for name in (each, "gone.jpg")] * 5
    got = list(Labelling(engine, mixed).outcomes())
    assert [file for file, _ in got] == mixed
    for number, (_, outcome) in enumerate(got):
        if number % 2:
            assert isinstance(outcome, Rejection)
        else:
            expected = alone[number // 2 % len(alone)]
            assert isinstance(outcome, Prediction)
            assert isinstance(expected, Prediction)
            assert outcome.result.labels[0] == expected.result.labels[0]


def test_no_more_is_read_than_there_is_room_for(
    engine: Engine, photographs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a few files are read ahead, however many there are; a file larger than the limit is still read."""
    monkeypatch.setattr(labelling, "MAX_FILES_IN_FLIGHT", 4)
    read = list[str]()

    def names() -> Iterator[str]:
        for name in photographs * 10:
            read.append(name)
            yield name

    outcomes = Labelling(engine, names()).outcomes()
    for taken, _ in enumerate(outcomes):
        assert len(read) <= taken + 4 + 1
    assert len(read) == 10 * len(photographs)
    monkeypatch.setattr(labelling, "MAX_BYTES_IN_FLIGHT", 1)
    assert len(list(Labelling(engine, photographs).outcomes())) == len(photographs)


def test_a_stop_ends_it_at_once(engine: Engine, photographs: list[str]) -> None:
    """A stop ends the outcomes at once and ends the reading thread; the engine keeps the images in flight."""
    labels = Labelling(engine, photographs * 100)
    outcomes = labels.outcomes()
    next(outcomes)
    labels.stopped = True
    assert list(outcomes) == []
    until(lambda: not any(thread.name == "reader" for thread in threading.enumerate()))


def test_an_engine_that_fails_is_raised(photographs: list[str], engine: Engine) -> None:
    """An engine that fails, here because it is closed, raises its error to the caller."""
    closed = Engine(engine.config)
    with pytest.raises(ServerError):
        list(Labelling(closed, photographs).outcomes())
