"""Tests that every odd file gets its answer in both modes, alone and among others, and does not change theirs."""

from collections.abc import Iterator

import pytest

from pipeline.records import Prediction
from tests.odd.corpus import corpus
from tests.odd.judge import CONFIG, EXACT_TOLERANCE, Answers, TorchvisionReference, ask, fault, kind_of, scores
from tests.odd.odd_file import OddFile

MODES = ("fast", "exact")


@pytest.fixture(scope="module")
def answers() -> dict[str, Answers]:
    """Outcomes in each mode."""
    return {mode: ask(CONFIG.model_copy(update={"decode": mode}), corpus()) for mode in MODES}


@pytest.fixture(scope="module")
def reference() -> TorchvisionReference:
    """Scores by torchvision alone."""
    return TorchvisionReference(corpus())


def test_the_corpus_is_large_and_of_different_files() -> None:
    assert len(corpus()) >= 400
    assert len({(file.data, file.kind) for file in corpus()}) > 0.98 * len(corpus())


def test_every_file_gets_its_answer(
    answers: dict[str, Answers], reference: TorchvisionReference, subtests: pytest.Subtests
) -> None:
    """Every file gets its answer, alone and among others, and the same in both modes."""
    for kind in dict.fromkeys(file.kind for file in corpus()):
        with subtests.test(kind):
            wrong = [line for file in corpus() if file.kind == kind for line in _faults(file, answers, reference)]
            assert not wrong, "\n".join(wrong)


def _faults(file: OddFile, answers: dict[str, Answers], reference: TorchvisionReference) -> Iterator[str]:
    for mode in MODES:
        for company, outcomes in (("alone", answers[mode].alone), ("among others", answers[mode].among)):
            if what := fault(file, outcomes[file], mode, reference):
                yield f"{file}, {mode}, {company}: {what}"
    fast, exact = (kind_of(answers[mode].alone[file]) for mode in MODES)
    if fast != exact:
        yield f"{file}: {fast} in fast, {exact} in exact"


@pytest.mark.parametrize("mode", MODES)
def test_neighbours_are_answered_as_alone(mode: str, answers: dict[str, Answers]) -> None:
    """A good image among odd files has the scores that it has in a request of its own."""
    good = answers[mode].good
    assert isinstance(good, Prediction)
    for outcome in answers[mode].neighbours:
        assert isinstance(outcome, Prediction)
        assert (scores(outcome) - scores(good)).abs().max() < EXACT_TOLERANCE


@pytest.mark.parametrize("mode", MODES)
def test_no_worker_is_lost_over_any_file(mode: str, answers: dict[str, Answers]) -> None:
    assert not answers[mode].workers_lost
