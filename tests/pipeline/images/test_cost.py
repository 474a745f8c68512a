"""Tests of the cost of an image: it follows from the header, and fits ordinary and costly files."""

from dataclasses import replace

import pytest

from harness.costly_images import COSTLY_FILES, progressive_jpeg
from harness.photographs import encoded, jpeg, photograph
from pipeline.bounds import COSTLY_FROM_S
from pipeline.config import PipelineConfig
from pipeline.images.cost import body_cost_s, cost_s, timeout_s
from pipeline.images.header import Header, read_header
from tests.support.decode_bench import EXACT, TRANSFORM

PHOTOGRAPH = Header("JPEG", 4000, 3000, "baseline", 3, 1, 10, 3_000_000, 8, samples=1.5)
ALL = (*PipelineConfig().formats, "GIF", "BMP", "AVIF")


def cost_ms(file: bytes) -> float:
    return cost_s(read_header([file], ALL), TRANSFORM) * 1e3


@pytest.mark.parametrize("name", COSTLY_FILES)
def test_costly_files_have_a_cost_that_shows_it(name: str) -> None:
    """Costly files have a cost above 50 ms, that of five 12-megapixel photographs, though most are small."""
    assert 50 < cost_ms(COSTLY_FILES[name]()) < 500


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_every_format_has_a_cost_that_grows_with_the_picture(name: str) -> None:
    small, large = (cost_ms(encoded(photograph("cat").resize(size), name)) for size in ((100, 75), (800, 600)))
    assert 0.3 < small < 1.2 * small < large < 50


@pytest.mark.parametrize(
    "change",
    [
        {"coding": "progressive", "visited": 9.0},
        {"coding": "arithmetic"},
        {"coding": "lossless"},
        {"channels": 4, "samples": 4.0},
        {"bytes": 6_000_000},
        {"chunks": 1000},
        {"width": 40_000, "height": 300},  # its shorter side is hardly above the resize
    ],
    ids=str,
)
def test_what_takes_longer_costs_more(change: dict[str, object]) -> None:
    changed = replace(PHOTOGRAPH, **change)  # type: ignore[arg-type]
    assert cost_s(changed, TRANSFORM) > 1.03 * cost_s(PHOTOGRAPH, TRANSFORM)


def test_scans_cost_by_what_they_visit() -> None:
    """The cost of scans follows from the blocks that they visit.

    Ten more cost nothing at 8 pixels and 0.3 s at 49 megapixels.
    """
    for side, ms in ((8, 0.01), (1024, 7), (7040, 320)):
        few, many = (cost_ms(progressive_jpeg((side, side), 1, refinements)) for refinements in (3, 13))
        assert many - few == pytest.approx(ms, rel=0.2, abs=0.02)


def test_exact_costs_more_where_fast_reduces_or_crops_first() -> None:
    assert cost_s(PHOTOGRAPH, EXACT) > 1.5 * cost_s(PHOTOGRAPH, TRANSFORM)
    strip = replace(PHOTOGRAPH, format="PNG", coding="plain", width=10, height=1000, bytes=100)
    assert cost_s(strip, EXACT) > 10 * cost_s(strip, TRANSFORM)


def test_the_cost_of_a_photograph_hardly_depends_on_its_metadata() -> None:
    file = jpeg(photograph("cat"))
    assert cost_ms(file[:2] + b"\xff\xe1\0\x42" + bytes(64) + file[2:]) < 1.01 * cost_ms(file)


@pytest.mark.parametrize("name", PipelineConfig().formats)
def test_the_length_of_a_body_tells_no_more_than_its_image_costs(name: str) -> None:
    """A cost from the body's length is below the time that the image takes, and never that of a costly image."""
    for side in (100, 800, 2000):
        file = encoded(photograph("cat").resize((side, side)), name)
        assert 0.3 < 1e3 * body_cost_s(len(file)) < cost_ms(file)
    assert 0.9 * COSTLY_FROM_S < body_cost_s(1 << 30) < COSTLY_FROM_S


def test_a_timeout_follows_from_the_cost() -> None:
    """The timeout of an image follows from its cost, between one second and the limit."""
    assert [timeout_s(cost, 4.0) for cost in (0.0, 0.001, 0.2, 0.5)] == [1.0, 1.0, 2.0, 4.0]
