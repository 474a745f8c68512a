"""Tests of `benchmarks.own_transform`: its requests, its turns and its rows."""

from benchmarks import own_transform
from benchmarks.own_transform import HEADER, IMAGES, TransformWay, make_transform, measure, requests, row
from benchmarks.work import SMALL
from pipeline.model.recognition import recognised
from pipeline.model.served import Preprocess


def test_the_transform_is_recognised() -> None:
    """The benchmark measures what it says: the transform of the source takes the fast path."""
    assert recognised(make_transform(), "fast") == Preprocess(256, 224)


def test_a_request_has_its_images_in_its_format() -> None:
    files = requests(SMALL, "WEBP")
    assert len(files) == IMAGES
    assert {data[8:12] for data in files} == {b"WEBP"}


def test_ways_are_compared_with_the_transform_as_it_is() -> None:
    """Gains are medians of the turns; one of two images has another class."""

    def way(score: float, best: int) -> TransformWay:
        return TransformWay(lambda _: None, lambda _: [(0.5, 7), (score, best)])

    names = own_transform.HEADER[1:5]
    tried = dict(zip(names, [way(0.4, 1), way(0.4, 1), way(0.4001, 1), way(0.43, 2)], strict=True))
    found = measure(tried, [b"", b""], turns=2)
    assert [len(timed.image_ms) for timed in found.values()] == [2] * 4
    for timed, ms in zip(found.values(), (9.0, 6.0, 4.0, 2.0), strict=True):
        timed.image_ms, timed.request_ms = [ms, ms], [10 * ms, 10 * ms]
    cells = row("500 x 375 PNG", found)
    assert len(cells) == len(HEADER)
    assert cells[1] == "90 ms (9.00 an image)"
    assert cells[5:] == ["3.0", "3.0", "0.0001", "0.0300", "1 of 2"]
