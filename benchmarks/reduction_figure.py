"""The curve of `benchmarks.reduction`: the change of scores against the ratio and against the size, and the cost."""

import io
from collections.abc import Sequence
from typing import Any, Final, Protocol

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.images.geometry import LEAST_RATIO

_BOUND: Final = 0.03
_STYLE: Final = {"font.size": 9, "axes.titlesize": 10, "svg.fonttype": "none", "svg.hashsalt": "darkroom"}
_COLOURS: Final = {1: "#c2410c", 2: "#2563eb", 4: "#15803d", 8: "#6b7280"}


class Change(Protocol):
    """Attributes of `benchmarks.reduction.Change` that the figure draws."""

    @property
    def what(self) -> str: ...  # noqa: D102
    @property
    def short_px(self) -> int: ...  # noqa: D102
    @property
    def eighths(self) -> int: ...  # noqa: D102
    @property
    def ratio(self) -> float: ...  # noqa: D102
    @property
    def score(self) -> float: ...  # noqa: D102


def svg(changes: Sequence[Change], cost: Sequence[dict[str, Any]]) -> str:
    """Three charts side by side, as an SVG file."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]  # its stubs list every key
        figure = Figure(figsize=(13, 4), layout="constrained")
        by_ratio, by_size, by_cost = figure.subplots(1, 3)
        _draw_ratios(by_ratio, [change for change in changes if change.what == "a part"])
        _draw_sizes(by_size, [change for change in changes if change.what == "the rule"])
        _draw_costs(by_cost, cost)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return "\n".join(line.rstrip() for line in text[text.index("<svg") :].splitlines()) + "\n"


def _draw_ratios(axes: Axes, changes: Sequence[Change]) -> None:
    for eighths in sorted({change.eighths for change in changes}):
        most = dict[float, float]()
        for change in changes:
            if change.eighths == eighths:
                most[change.ratio] = max(change.score, most.get(change.ratio, 0.0))
        axes.plot(
            *zip(*sorted(most.items()), strict=True), "o-", color=_COLOURS[eighths], label=f"{eighths}/8", markersize=3
        )
    axes.axvline(LEAST_RATIO, color="black", linestyle="--", linewidth=1, label=f"the least ratio, {LEAST_RATIO}")
    axes.axhline(_BOUND, color="#777", linestyle=":", linewidth=1)
    axes.set(title="If reduced: largest change of a score", xlabel="short side to that of the resize", ylim=(0, None))
    axes.legend(fontsize=7)


def _draw_sizes(axes: Axes, changes: Sequence[Change]) -> None:
    for eighths in sorted({change.eighths for change in changes}):
        points = [(change.short_px, change.score) for change in changes if change.eighths == eighths]
        words = "whole" if eighths == 8 else f"at {eighths}/8"
        axes.plot(*zip(*points, strict=True), ".", color=_COLOURS[eighths], label=f"decoded {words}", markersize=3)
    axes.axhline(_BOUND, color="#777", linestyle=":", linewidth=1)
    axes.set(title="By the rule: change of a score, each file", xlabel="short side, pixels", ylim=(0, None))
    axes.legend(fontsize=7)


def _draw_costs(axes: Axes, cost: Sequence[dict[str, Any]]) -> None:
    for size in dict.fromkeys(facts["size"] for facts in cost):
        points = [(facts["eighths"], facts["times_whole"]) for facts in cost if facts["size"] == size]
        axes.plot(*zip(*points, strict=True), "o-", label=size, markersize=3)
    axes.set(
        title="Cost of an image",
        xlabel="eighths of the size that are decoded",
        ylabel="times the whole",
        ylim=(0, None),
    )
    axes.legend(fontsize=7)
