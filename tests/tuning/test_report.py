"""The report: readable however far a run has come, and in need of nothing else."""

import html.parser
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from deployments.config import LiveConfig
from tests.tuning.measured import BOUND_S, best_of, costs
from tuning.capacity import cells
from tuning.check import Seen
from tuning.choice import Sizes, settings_for
from tuning.findings import Findings
from tuning.report import summary, write_report

SIZES = Sizes(60_000, 120_000)
CHOSEN = settings_for(best_of(costs()), costs(), SIZES, LiveConfig(), BOUND_S)
SEEN = Seen(CHOSEN, 40.0, 39.5, 39.0, 0.030, 0.090, 0.01, 0, 0.002)


def _begun() -> Findings:
    return Findings("darkroom tune --images <b>", "2026-01-01", BOUND_S, 0, machine=["2 cores"], model="mobilenet_v2")


def _finished() -> Findings:
    findings = _begun()
    findings.images, findings.sizes, findings.unreadable = 48, SIZES, ["torn.jpg: it is <torn>"]
    findings.costs = replace(costs(), serving_s=0.004)
    findings.cells = list(cells(findings.costs, BOUND_S))
    findings.predicted = findings.chosen = CHOSEN
    findings.peak, findings.seen, findings.ladder = 80.0, [SEEN], [SEEN, replace(SEEN, offered=60.0, p99_s=0.2)]
    findings.verdict, findings.advice, findings.diff = "idle: 0 requests/s", ["bound by the 2 cores"], "-a\n+b\n"
    return findings


class _Page(html.parser.HTMLParser):
    """What a page asks others for, and what it says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.asks_for: list[str] = []
        self.said = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = [value or "" for name, value in attrs if name in ("src", "srcset", "action") or name.endswith("href")]
        self.asks_for += [f"{tag} {value}" for value in named if not value.startswith(("#", "data:"))]

    def handle_data(self, data: str) -> None:
        self.said += data


def _stages() -> list[Findings]:
    """As they are after each part of a run."""
    whole, stages = _finished(), [_begun()]
    for names in (
        ("images", "sizes"),
        ("costs",),
        ("cells", "predicted"),
        ("peak",),
        ("seen",),
        ("chosen",),
        ("ladder",),
    ):
        last = replace(stages[-1])
        for name in names:
            setattr(last, name, getattr(whole, name))
        stages.append(last)
    return stages


@pytest.mark.parametrize("stage", range(len(_stages())))
def test_a_run_that_was_stopped_has_a_report(tmp_path: Path, stage: int) -> None:
    """Whatever is there is shown, and it says where it was stopped."""
    findings = _stages()[stage]
    findings.stopped = "it was stopped at: the model"
    picture = write_report(tmp_path / "report.html", findings)
    page = _Page((tmp_path / "report.html").read_text())
    assert "Not finished: it was stopped at: the model" in page.said
    assert page.asks_for == []
    assert Image.open(io.BytesIO(picture.read_bytes())).size[0] > 1000


def test_a_whole_report_tells_all(tmp_path: Path) -> None:
    """What was typed, found, chosen and changed; no part of it is taken for HTML, and no outside link is in it."""
    picture = write_report(tmp_path / "report.html", _finished())
    text = (tmp_path / "report.html").read_text()
    page = _Page(text)
    for part in (
        "darkroom tune --images <b>",
        "torn.jpg: it is <torn>",
        "Bound by the 2 cores.",
        "39 images/s answered in time",
        "p99 90 ms (bound 100)",
        "max_batch_size",
        "-a\n+b\n",
        "HTTP, Ray, the clients, and what all cost each other: 4 ms of a core an image",
        "Expected: images/s that may come",
        "Decoding alone",
        "The model alone",
    ):
        assert part in page.said
    assert page.asks_for == []
    assert "<script" not in text
    assert picture.name == "report.png"


def test_the_summary_names_the_most_that_was_held() -> None:
    """A load whose slowest answers were late is none that the settings bear."""
    first = next(summary(_finished()))
    assert "39 images/s answered in time where 40 came by chance" in first
    assert list(summary(_begun())) == []
