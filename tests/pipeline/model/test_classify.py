"""Tests of the head of a classifier."""

import pytest
import torch

from pipeline.model.classify import Classification, Classify

LOGITS = torch.tensor([[1.0, 3.0, 2.0], [9.0, 0.0, 0.0]])


def results(head: Classify) -> list[Classification]:
    return head.results(head.on_device(LOGITS), [])


def test_the_best_classes_of_each_image_are_named() -> None:
    """The best classes come first, with their probabilities among all classes."""
    first, second = results(Classify(("a", "b", "c"), top_k=2))
    assert (first.labels, first.indices) == (("b", "c"), (1, 2))
    assert first.scores == pytest.approx(LOGITS[0].softmax(0)[[1, 2]].tolist())
    assert second.indices[0] == 0


@pytest.mark.parametrize(("top_k", "kept"), [(None, 3), (1, 1), (100, 3)])
def test_all_classes_are_kept_where_there_are_no_more(top_k: int | None, kept: int) -> None:
    """At most all classes are kept, and a request may ask for as many as were configured."""
    head = Classify(("a", "b", "c"), top_k)
    assert {len(result.labels) for result in results(head)} == {kept}
    assert head.parameters["top_k"].schema == {"type": "integer", "minimum": 1, "maximum": top_k or 3}


def test_an_answer_names_as_many_as_were_asked_for() -> None:
    first, _ = results(Classify(("a", "b", "c")))
    assert first.as_json(top_k=1) == {"predictions": [{"label": "b", "index": 1, "score": first.scores[0]}]}
    assert [each["label"] for each in first.as_json(top_k=5)["predictions"]] == ["b", "c", "a"]
