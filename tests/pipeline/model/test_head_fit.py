"""Tests of the checks that a head fits its module, and that its results can be answered: one sentence, with shapes."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline import Classify, Embed, Geometry, Head, Multilabel
from pipeline.errors import HeadFailed, InvalidModel
from pipeline.model.head_fit import check_documents, checked_rows
from pipeline.model.head_results import results_of

LOGITS = torch.zeros(2, 3)
GEOMETRY: Any = [object()] * 4


class PlainHead(Head):
    """A head that returns what a test gives it."""

    def __init__(self, rows: Any, results: Any = None) -> None:
        self._rows, self._results = rows, results

    def on_device(self, outputs: Any) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the rows, or fail if there are none."""
        if self._rows is None:
            return {"rows": torch.zeros(2) @ torch.zeros(3)}
        return self._rows  # type: ignore[no-any-return]

    def results(self, rows: Mapping[str, Tensor], geometry: Sequence[Geometry]) -> list[Any]:  # noqa: ARG002
        """Return the results, or the number of each row; fail for a negative number."""
        if self._results is not None:
            return self._results  # type: ignore[no-any-return]
        return [{"number": [1, 2, 3][number]} for number in rows["numbers"].tolist()]


def line_of(method: Any, more: int) -> str:
    return f"test_head_fit.py:{inspect.getsourcelines(method)[1] + more}"


@pytest.mark.parametrize(
    ("head", "outputs", "says"),
    [
        (
            Classify("abc"),
            {"out": torch.zeros(2, 21, 8, 8)},
            r"\[2, classes\] for 2 images, .* a dict of 1: {'out': fl",
        ),
        (Classify("abc"), torch.zeros(2, 3, 7, 7), r"returns float32 \[2, 3, 7, 7\]; wrap it"),
        (Classify("abc"), torch.zeros(1, 3), r"\[2, classes\] for 2 images, and returns float32 \[1, 3\]"),
        (Classify("abc"), (LOGITS, LOGITS), r"returns a tuple of 2: \(float32 \[2, 3\], float32 \[2, 3\]\)"),
        (Classify("abc"), None, "returns a NoneType"),
        (Classify("abcd"), LOGITS, r"there are 4 labels, and the module returns 3 classes .*float32 \[2, 3\]"),
        (Classify("a"), torch.zeros(2, 1), r"a single class .* take the head Multilabel"),
        (Multilabel("abc"), LOGITS.long(), r"logits, float .* returns int64 \[2, 3\]"),
        (Multilabel("ab"), LOGITS, "there are 2 labels"),
        (
            Embed(),
            torch.zeros(2, 3, 1, 1),
            r"vectors, float \[2, dimensions\] .* \[2, 3, 1, 1\]; end it with a pooling",
        ),
    ],
)
def test_a_head_that_does_not_fit_is_told_with_shapes(head: Head, outputs: Any, says: str) -> None:
    with pytest.raises(InvalidModel, match=says) as told:
        checked_rows(head, outputs, 2)
    assert str(told.value).startswith(f"the head {type(head).__name__} does not fit the model: ")


def test_a_single_output_fits_a_sigmoid() -> None:
    assert [*checked_rows(Multilabel(["defect"]), torch.zeros(2, 1), 2)] == ["scores", "classes"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (LOGITS, r"float32 \[2, 3\]"),
        ({}, "a dict of 0"),
        ({"a": [1, 2]}, "'a': a list of 2"),
        ({"a": LOGITS, "b": LOGITS[:1]}, r"'b': float32 \[1, 3\]"),
        ({"a": LOGITS.sum()}, r"'a': float32 \[\]"),
    ],
)
def test_a_head_without_a_row_for_each_image_is_told_with_its_place(rows: Any, says: str) -> None:
    place = line_of(PlainHead.on_device, 0)
    with pytest.raises(
        InvalidModel, match=rf"^PlainHead.on_device \(.*{place}\) must .* for 2 images, and returns {says}"
    ):
        checked_rows(PlainHead(rows), LOGITS, 2)


def test_an_error_of_the_head_names_its_line() -> None:
    place = line_of(PlainHead.on_device, 3)
    with pytest.raises(InvalidModel, match=rf"fails on the output .*float32 \[2, 3\]: RuntimeError: .*{place}\)$"):
        checked_rows(PlainHead(None), LOGITS, 2)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([1], "must be a mapping, and is a list of 1"),
        ({"error": 1}, 'has the member "error", which answers use'),
        ({"tensor": LOGITS}, "cannot be written as JSON: .*Tensor"),
        ({1: "one"}, "cannot be written as JSON: .*str"),
    ],
)
def test_a_result_that_is_no_json_is_told_with_its_place(document: Any, says: str) -> None:
    with pytest.raises(
        InvalidModel, match=rf"^a result of PlainHead.results \(.*{line_of(PlainHead.results, 0)}\) {says}"
    ):
        check_documents(PlainHead({}), [lambda: document])


def test_an_image_on_which_the_head_fails_leaves_its_neighbours() -> None:
    """The head's error rejects one image; its neighbours have their results, and the reason names the line."""
    first, bad, *others = results_of(PlainHead({}), {"numbers": torch.tensor([0, 3, 1, 2])}, GEOMETRY)
    assert [first, *others] == [{"number": 1}, {"number": 2}, {"number": 3}]
    assert isinstance(bad, HeadFailed)
    assert bad.reason.startswith("IndexError: ")
    assert line_of(PlainHead.results, 4) in bad.reason
    assert "head_fit" not in str(bad)


@pytest.mark.parametrize("results", [[{}], [{}] * 5, iter([{}] * 4), {"a": 1}])
def test_a_head_with_a_wrong_number_of_results_fails(results: Any) -> None:
    failed = results_of(PlainHead({}, results), {"numbers": torch.zeros(4)}, GEOMETRY)
    assert len(failed) == 4
    assert all(isinstance(each, HeadFailed) and line_of(PlainHead.results, 0) in each.reason for each in failed)
