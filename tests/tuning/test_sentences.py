"""Tests of the result in plain English."""

import math
import re
from dataclasses import replace

import pytest

from tests.tuning.measured import BOUND_S, PRESENT, cells_of, costs, seen
from tuning.comparison import compare
from tuning.derived_settings import Sizes
from tuning.findings import Findings
from tuning.replica_settings import Settings
from tuning.screen import screen
from tuning.sentences import milliseconds, rate, said
from tuning.trials import Trial

OTHER = replace(PRESENT, decode_workers=2, batch=4)


def _trial(settings: Settings, per_s: float, *, full_per_s: float | None = None, speed: float = 1.0) -> Trial:
    within, full = (
        replace(seen(settings, clients=18, offered=rate, p99_s=0.35), speed=speed)
        for rate in (per_s, full_per_s or per_s)
    )
    return Trial(settings, within, full if full_per_s else within)


def finished(asked_s: float | None = None, *, gain: float = 0.2) -> Findings:
    """Return the findings of a finished run, in which the other settings are this much faster."""
    findings = Findings("darkroom tune --images <b>", "2026-01-01", asked_s, 0)
    findings.machine, findings.model, findings.bound_s = ["2 cores"], "mobilenet_v2, float32", asked_s or 0.5
    findings.images, findings.sizes = 48, Sizes(60_000, 120_000)
    findings.costs = replace(costs(), serving_s=0.004)
    findings.cells = cells_of(findings.costs)
    findings.present, findings.predicted = PRESENT, OTHER
    findings.alone = seen(clients=1, p99_s=0.04)
    findings.trials = [_trial(PRESENT, 60.0), _trial(OTHER, 60.0 * (1 + gain))]
    findings.comparison = compare(findings.trials[:1], findings.trials[1:])
    findings.chosen = OTHER if findings.comparison.is_better else PRESENT
    findings.written = findings.chosen
    findings.proof = seen(findings.chosen, clients=18, p99_s=0.35)
    if asked_s:
        findings.closed_loop = [seen(clients=clients, p99_s=clients * 0.02) for clients in (4, 6)]
        findings.open_loop = [seen(offered=30.0), seen(offered=36.0, p99_s=0.2)]
        findings.most_open, findings.too_many = findings.open_loop
        findings.proof = seen(findings.chosen, clients=4, offered=55.0)
        findings.written = replace(findings.chosen, max_queue_wait_s=0.2)
    findings.verdict, findings.advice, findings.diff = "idle: 0 requests/s", ["Bottleneck: the 2 cores"], "-a\n+b\n"
    return findings


def _said(findings: Findings) -> str:
    return "\n".join(line for _, lines in said(findings) for line in lines)


def test_without_a_bound_the_peak_is_what_is_told() -> None:
    """Without a bound the peak is reported, and the bound that follows from the machine with its reason."""
    told = _said(finished())
    assert "No --p99-ms was given, so the goal is the most images a second" in told
    assert "within 500 ms: ten times a single request, and at least 0.5 s" in told
    assert "Peak: 72 images/s, with 18 clients that each wait for the answer" in told
    assert "random times" not in told


def test_with_a_bound_both_figures_are_told() -> None:
    """With a bound the peak is reported, and what holds within it, for waiting clients and for random load."""
    told = _said(finished(BOUND_S))
    assert "Peak: 72 images/s" in told
    assert (
        "With 99 % of the answers within 100 ms: 55 images/s to 4 clients that each wait for the answer; "
        "with 6 clients, 99 % took up to 120 ms" in told
    )
    assert (
        "and requests at random times, as many independent users send them: 30 images/s; with 36 images/s, "
        "99 % took up to 200 ms" in told
    )
    assert "max_queue_wait_s was 5 and becomes 0.2" in told
    assert "4 clients sent 220 requests; none was refused" in told
    assert "With more than about 11 clients at a time, some requests are refused" in told


def test_nothing_that_holds_by_chance_is_told_too() -> None:
    findings = finished(BOUND_S)
    findings.most_open, findings.too_many = None, seen(offered=1.2)
    assert "users send them: less than 1.2 images/s; requests that come at the same moment wait" in _said(findings)


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (0.2, "Recommended: 2 decoding workers, 2 batches at a time of up to 4 images. They answer 20% more than"),
        (0.02, "Recommended: keep the present settings (1 decoding worker, 2 batches at a time of up to 32 images)"),
        (0.02, "answered 2% more, which is too little to be sure: 61.2 against 60 images/s"),
        (-0.1, "answered 10% less: 54 against 60 images/s"),
        (0.0, "answered as much"),
    ],
)
def test_the_recommendation_says_what_and_how_sure(gain: float, says: str) -> None:
    told = _said(finished(gain=gain))
    assert says in told
    assert "each was measured 1 time; differences below 3% may be chance" in told


def test_a_machine_that_was_too_unsteady_is_told() -> None:
    findings = finished()
    findings.comparison = compare([_trial(PRESENT, 60.0)], [_trial(OTHER, 72.0, speed=1.5)])
    assert "differences below 50% may be chance: this machine was too unsteady to tell settings apart" in _said(
        findings
    )


def test_present_settings_that_are_predicted_to_be_the_best_are_kept() -> None:
    findings = finished()
    findings.comparison = None
    assert "keep the present settings (1 decoding worker" in _said(findings)
    assert "no others are expected to answer more" in _said(findings)


def test_the_peak_that_would_be_lost_is_told() -> None:
    findings = finished(BOUND_S)
    predicted = _trial(OTHER, 50.0, full_per_s=60.0)
    findings.comparison = compare([_trial(PRESENT, 40.0, full_per_s=80.0)], [predicted])
    assert "answered 25% more, but fewer images at full load" in _said(findings)


def test_all_that_makes_it_less_sure_is_told() -> None:
    """Everything that makes the result less certain is reported.

    Examples are few images, unreadable files and a busy machine.
    """
    findings = finished()
    assert not re.search("Only|left out|busy machine|faster at one time|own cores", _said(findings))
    findings.images, findings.unreadable, findings.busy_before = 1, ["torn.jpg: it is <torn>"], 0.5
    findings.trials = [replace(findings.trials[0], full=replace(findings.trials[0].full, clients_cores=0.4))]
    findings.chosen = PRESENT
    told = _said(findings)
    assert "Only 1 image was measured" in told
    assert "1 file was left out, because the service would refuse it; the first: torn.jpg" in told
    assert "other programs used 50% of the cores" in told
    assert "ran on the service's own cores and took 20% of them" in told
    findings.busy_before, findings.others_cores = 0.0, 2
    slow, fast = (replace(findings.trials[0].full, speed=speed) for speed in (0.5, 1.0))
    findings.trials = [Trial(PRESENT, slow, slow), Trial(PRESENT, fast, fast)]
    assert "The machine was up to 100% faster at one time than at another" in _said(findings)
    assert "own cores" not in _said(findings)
    findings.trials = [Trial(PRESENT, full := replace(fast, clients_cores=0.95), full)]
    assert "as busy as one process can be" in _said(findings)


def test_images_of_one_request_are_told_apart_from_requests() -> None:
    findings = finished()
    findings.images_per_request = 32
    assert "48 images of 60 kB on average, 32 a request" in _said(findings)
    assert "A request with 32 images takes" in _said(findings)
    assert "Peak: 72 images/s (2.25 requests/s)" in _said(findings)


def test_units_are_those_that_people_read() -> None:
    assert [milliseconds(seconds) for seconds in (0.0123, 0.5, 2.5, math.inf)] == [
        "12.3 ms",
        "500 ms",
        "2.5 s",
        "never",
    ]
    assert rate(61.234, 1) == "61.2 images/s"


@pytest.mark.parametrize("asked_s", [None, BOUND_S])
def test_the_screen_has_headings_a_table_and_short_lines(asked_s: float | None) -> None:
    """The screen has headings, short lines, and a table of the tried settings with the present ones marked."""
    shown = screen(finished(asked_s))
    assert max(map(len, shown.splitlines())) <= 100
    headings = [line for line in shown.splitlines() if line and not line.startswith((" ", "-"))]
    assert headings == ["What was measured", "Settings that were tried", "What was found", "What to do"]
    (row,) = [line for line in shown.splitlines() if line.strip().startswith("present")]
    assert row.split() == ["present", "1", "2", "up", "to", "32", "18", "1", "60.0", "100%", "350", "ms"]


def test_a_run_that_has_found_nothing_yet_says_nothing() -> None:
    assert list(said(Findings("darkroom tune", "today", None, 0))) == []
