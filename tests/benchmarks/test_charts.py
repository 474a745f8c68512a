"""Tests of the charts of recorded results."""

from xml.etree import ElementTree

from matplotlib.patches import Rectangle

from benchmarks import charts
from harness.command import RESULTS
from harness.figures import svg


def test_the_chart_of_shares_has_a_bar_for_every_record() -> None:
    """The chart of shares has one bar for each record, grouped by load; the length of a bar is its share."""
    spread = {"least_of_limit": 0.4, "most_of_limit": 0.6}
    records = [
        {"what": what, "load": load, "of_limit": share, **spread}
        for what, load, share in (("a & b", "small", 0.25), ("Darkroom", "small", 0.5), ("Darkroom", "large", 1.0))
    ]
    figure = charts.shares(records)
    bars = [[bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)] for axes in figure.axes]
    assert bars == [[0.25, 0.5], [1.0]]
    names = [[label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes]
    assert names == [["a & b", "Darkroom"], ["Darkroom"]]
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [["0.25", "0.50"], ["1.00"]]


def test_no_bar_leaves_the_chart() -> None:
    """Every bar fits into the chart, also a service without the transform, which may reach several times the limit."""
    record = {"what": "HTTP alone", "load": "small", "of_limit": 6.8, "least_of_limit": 6.0, "most_of_limit": 7.3}
    (axes,) = charts.shares([record]).axes
    (bar,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    assert bar.get_width() < axes.get_xlim()[1]
    assert axes.texts[0].get_text() == "6.80"


def test_a_chart_is_the_same_whenever_it_is_drawn() -> None:
    """A chart drawn twice from the same records is the same, byte for byte.

    So the charts in benchmarks/results/ change only with the records beside them.
    """
    records = charts.read(RESULTS / "bench-full.json")
    text = svg(charts.shares(records))
    assert text == svg(charts.shares(records))
    ElementTree.fromstring(text)  # noqa: S314  made by this test
