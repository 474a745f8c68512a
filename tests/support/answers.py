"""Right answers: labels, and kinds of outcomes."""

from collections.abc import Sequence

from harness.local_service import Document
from pipeline.records import Outcome, Prediction, Rejection

CAT_LABELS = {"Egyptian cat", "tabby", "tiger cat"}
"""Breeds that the model may see in the cat, depending on size and decoder."""


def best(result: Document) -> str:
    """Return the first label of an image's predictions."""
    label: str = result["predictions"][0]["label"]
    return label


def kinds(outcomes: Sequence[Outcome]) -> list[type]:
    """Return the class of each outcome: `Prediction`, or the class of the error of a rejection."""
    return [type(outcome.error) if isinstance(outcome, Rejection) else Prediction for outcome in outcomes]
