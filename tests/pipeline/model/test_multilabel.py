"""Tests of the head for several labels an image."""

import pytest
import torch
from torch import nn

from pipeline.model.multilabel import ClassScores, Multilabel

LABELS = ("cat", "dog", "boat", "tree")


def results(head: Multilabel, logits: torch.Tensor) -> list[ClassScores]:
    head.check(logits, len(logits))
    return head.results(head.on_device(logits), [])


def test_every_class_that_reaches_the_threshold_is_named() -> None:
    """The classes that reach the threshold come best first, each with the sigmoid of its own logit."""
    torch.manual_seed(0)
    module, images = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)).eval(), torch.randn(16, 3, 8, 8)
    with torch.inference_mode():
        logits = module(images)
        found = results(Multilabel(LABELS), logits)
    for alone, result in zip(logits.sigmoid(), found, strict=True):
        for threshold in (0.0, 0.3, 0.5, 0.9, 1.0):
            best = [int(index) for index in alone.argsort(descending=True) if alone[index] >= threshold]
            predictions = result.as_json(threshold)["predictions"]
            assert [each["index"] for each in predictions] == best
            assert [each["label"] for each in predictions] == [LABELS[index] for index in best]
            assert [each["score"] for each in predictions] == pytest.approx([float(alone[index]) for index in best])
    assert len({len(result.as_json(0.5)["predictions"]) for result in found}) > 2


def test_a_score_at_the_threshold_counts() -> None:
    (result,) = results(Multilabel(LABELS), torch.zeros(1, 4))
    assert [len(result.above(threshold)) for threshold in (0.5, 0.5001)] == [4, 0]


def test_rows_for_people_and_for_programs() -> None:
    """A person reads a line for each class, also if there is none; CSV has a cell for each class of the model."""
    head = Multilabel(LABELS, threshold=0.9)
    (result,) = results(head, torch.tensor([[3.0, -3.0, 5.0, 0.0]]))
    assert result.lines(threshold=0.9) == ["  99.3%  boat", "  95.3%  cat"]
    assert result.lines(threshold=1.0) == ["      -  no class reaches 1; the best has 0.99"]
    assert head.columns(threshold=0.9) == LABELS
    cells = result.cells(threshold=0.9)
    assert [bool(cell) for cell in cells] == [True, False, True, False]
    assert float(cells[2]) == result.scores[0]


def test_a_threshold_is_a_share() -> None:
    assert Multilabel((), 0.25).parameters["threshold"].default == 0.25
    with pytest.raises(ValueError, match="threshold: 50 is not a number from 0 to 1"):
        Multilabel((), 50)
