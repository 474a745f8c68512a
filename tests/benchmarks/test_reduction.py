"""Tests of the benchmark of reduced decoding: how much larger than the resize a reduced JPEG must stay."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from benchmarks import reduction
from benchmarks.album import album, scaled
from benchmarks.decoders import darkroom_fast
from benchmarks.reduction import TIMED_SIZES_PX, Change, Pixels, changes_of_parts, changes_of_rule, decoded, report
from harness.photographs import NAMES, jpeg, photograph

COST = [{"what": "cost", "size": "500 x 375", "eighths": 8, "ratio": 1.46, "ms": 1.1, "times_whole": 1.0}]


def _score(pixels: tuple[Pixels, Pixels]) -> torch.Tensor:
    """Scores two classes: how bright an image is, and how dark."""
    bright = torch.tensor([image.mean() / 255 for image in pixels])
    return torch.stack([bright, 1 - bright], dim=1)


def _change(what: str, eighths: int, score: float, lead: float = 0.0) -> Change:
    return Change(what, "cat", "4:2:0", 1024, eighths, score, lead, levels=0.5)


def test_the_album_begins_with_the_photographs_of_the_tests() -> None:
    assert tuple(album())[: len(NAMES)] == NAMES
    assert len(album()) in (10, 16)
    assert [*album().values()][-1]().mode == "RGB"


@pytest.mark.parametrize(("short_px", "eighths"), [(512, 8), (3024, 4)])
def test_what_the_rule_chooses_is_what_fast_does(short_px: int, eighths: int) -> None:
    image = scaled(photograph("cat"), short_px)
    np.testing.assert_array_equal(decoded(jpeg(image), image.size, eighths), darkroom_fast(jpeg(image)))


def test_changes_are_measured_in_every_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes are measured in every chroma sampling, at every ratio that the photograph is large enough for."""
    monkeypatch.setattr(reduction, "EIGHTHS", (4,))
    monkeypatch.setattr(reduction, "RATIOS", (1, 1.25, 1.5, 20))
    parts = list(changes_of_parts("cat", photograph("cat"), _score))  # type: ignore[arg-type]
    assert [change.ratio for change in parts] == [1, 1.25, 1.5]
    assert {change.sampling for change in parts} == {*reduction.SAMPLINGS}
    assert all(0 < change.score < 0.1 and change.levels > 0.2 and change.lead == 0 for change in parts)
    rule = list(changes_of_rule("cat", photograph("cat"), _score, (300, 3000)))  # type: ignore[arg-type]
    assert [change.eighths for change in rule] == [8, 4, 4, 4]
    assert rule[0].levels < 0.05 < rule[1].levels


def test_the_report_is_a_table_records_and_a_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduction, "RESULTS", tmp_path)
    changes = [_change("a part", 4, 0.2, 0.01), _change("a part", 4, 0.1), _change("the rule", 8, 0.002)]
    text = report({"date": "today"}, changes, COST)
    markdown = (tmp_path / "reduction.md").read_text()
    assert "| 4/8 | 2.00 | 2 | 0.200 | 0.200 | 1, by up to 0.0100 | 0.50 |" in markdown
    assert "| the rule: whole | 4.00 to 4.00 | 1 | 0.002 | 0.002 | 0 | 0.50 |" in markdown
    assert "| 500 x 375 | 8/8 | 1.46 | 1.10 | 1.00 |" in markdown
    assert "the rule: whole" in text
    records = [json.loads(line) for line in (tmp_path / "reduction.json").read_text().splitlines()]
    assert [record.get("what") for record in records] == [None, "cost", "a part", "a part", "the rule"]
    ElementTree.fromstring((tmp_path / "reduction.svg").read_text())  # noqa: S314  made by this test


def test_costs_are_told_by_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduction, "TIMED_SIZES_PX", TIMED_SIZES_PX[:1])
    monkeypatch.setattr(reduction, "ROUNDS", 1)
    found = reduction.costs()
    assert [facts["eighths"] for facts in found] == [6, 7, 8]
    assert found[-1]["times_whole"] == 1.0
