"""Tests of the report: readable at any stage of a run, and without other files or sites."""

import html.parser
import io
from dataclasses import fields, replace
from pathlib import Path

import pytest
from PIL import Image

from tests.tuning.measured import BOUND_S
from tests.tuning.test_sentences import finished
from tuning.findings import Findings
from tuning.html_report import write_report


def _finished() -> Findings:
    findings = finished(BOUND_S)
    findings.unreadable = ["torn.jpg: it is <torn>"]
    return findings


class _Page(html.parser.HTMLParser):
    """The text of a page, and the addresses that it loads."""

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
    """Return the findings after each part of a run, filled from top to bottom."""
    whole = _finished()
    begun = Findings(whole.command, whole.date, whole.asked_s, whole.seed, machine=whole.machine, model=whole.model)
    stages, names = [begun], [field.name for field in fields(Findings)]
    for name in names[names.index("images") :]:
        last = replace(stages[-1])
        setattr(last, name, getattr(whole, name))
        if name in ("costs", "predicted", "trials", "chosen"):  # stages after which a picture shows more
            last.bound_s = whole.bound_s
            stages.append(last)
        else:
            stages[-1] = last
    return stages


@pytest.mark.parametrize("stage", range(len(_stages())))
def test_a_run_that_was_stopped_has_a_report(tmp_path: Path, stage: int) -> None:
    """A stopped run has a report with all findings so far and the place where it was stopped."""
    findings = _stages()[stage]
    findings.stopped = "Not finished: it was stopped at: the model"
    picture = write_report(tmp_path / "report.html", findings)
    page = _Page((tmp_path / "report.html").read_text())
    assert "Not finished: it was stopped at: the model" in page.said
    assert page.asks_for == []
    assert Image.open(io.BytesIO(picture.read_bytes())).size[0] > 1000


def test_a_whole_report_tells_all(tmp_path: Path) -> None:
    """A whole report has command, findings, choice and changes, escapes HTML, and has no outside link."""
    picture = write_report(tmp_path / "report.html", _finished())
    text = (tmp_path / "report.html").read_text()
    page = _Page(text)
    for part in (
        "darkroom tune --images <b>",
        "torn.jpg: it is <torn>",
        "Bottleneck: the 2 cores.",
        "Recommended: 2 decoding workers",
        "99 % of the answers within 100 ms",
        "Settings that were tried on the running service",
        "The chosen settings, with requests at random times (Poisson)",
        "The chosen settings, with clients that each wait for the answer",
        "Settings, now and as recommended",
        "max_batch_size",
        "-a\n+b\n",
        "In the service an image takes a further 4 ms of a core: HTTP, Ray,",
        "Expected: images/s at random times",
        "Decoding alone",
        "The model alone",
        "The service, chosen settings",
    ):
        assert part in page.said
    assert page.asks_for == []
    assert "<script" not in text
    assert picture.name == "report.png"
