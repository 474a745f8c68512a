"""Tests of the images that are sent to services which are broken on purpose."""

from harness.broken_images import announced_bomb, decodable_bomb, photographs, truncated
from pipeline.engine import Engine
from pipeline.errors import TooManyPixels, UndecodableImage
from pipeline.records import Prediction, Rejection


def test_the_images_are_what_they_are_called(engine: Engine) -> None:
    outcomes = engine.infer([*photographs(), truncated(), announced_bomb(), decodable_bomb()])
    *good, cut_off, announced, decodable = outcomes
    assert all(isinstance(outcome, Prediction) for outcome in good)
    for outcome, error in ((cut_off, UndecodableImage), (announced, TooManyPixels), (decodable, TooManyPixels)):
        assert isinstance(outcome, Rejection)
        assert isinstance(outcome.error, error)
    assert len(decodable_bomb()) < 1 << 20
