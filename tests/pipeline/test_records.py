"""Tests of the records that travel through the pipeline."""

import dataclasses

import pytest

from pipeline.errors import UndecodableImage
from pipeline.records import Prediction, Rejection, StageTimings


def test_records_cannot_be_changed() -> None:
    for record, name in ((StageTimings(), "queue_s"), (Rejection(UndecodableImage()), "error")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, name, 1)


def test_predictions_are_equal_whatever_their_timings() -> None:
    """Predictions are equal if their results are, because timings differ with every call."""
    one, other = (Prediction({"label": "cat"}, StageTimings(queue_s=s)) for s in (0.1, 0.2))
    assert one == other
    assert one != Prediction({"label": "dog"})
