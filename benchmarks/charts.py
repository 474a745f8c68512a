"""Charts of recorded results: `python -m benchmarks.charts` redraws those in `benchmarks/results/`.

The command measures nothing. The colours are readable on white and on black.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.limit import TRANSFORM
from harness.command import RESULTS, Facts, say
from harness.figures import styled, svg
from pipeline.images.geometry import MIN_REDUCED_TO_TARGET_RATIO

_TEXT_COLOUR: Final = "#6e7681"
_DARKROOM_COLOUR: Final = "#1f6feb"
_PEER_COLOUR: Final = "#8b949e"
_COLOUR_BY_EIGHTHS: Final = {1: "#c2410c", 2: "#2563eb", 4: "#15803d", 8: "#6b7280"}
"""Colours by the decoded part of a JPEG's size, in eighths."""

_MAX_SHOWN_SHARE: Final = 1.05
"""Share of the limit at which bars are cut: HTTP or a device alone may reach several times the limit."""

_MAX_SCORE_CHANGE: Final = 0.03


def main() -> None:
    """Draw every chart of the recorded results."""
    for name, draw in (("bench-full", shares), ("reduction", reduction)):
        figure = draw(read(RESULTS / f"{name}.json"))
        (RESULTS / f"{name}.svg").write_text(svg(figure))
        say(f"{name}.svg")


def read(path: Path) -> list[Facts]:
    """Read the records of a benchmark, without the first line, which describes the circumstances."""
    return [json.loads(line) for line in path.read_text().splitlines()[1:]]


# ---- make bench -----------------------------------------------------------------------------------------------------


def shares(records: Sequence[Facts]) -> Figure:
    """Draw shares of the limit as bars, one group for each load, with a thin line from lowest to highest run.

    Args:
        records: records with `what`, `load`, `of_limit`, `least_of_limit` and `most_of_limit`.
    """
    groups = [[each for each in records if each["load"] == load] for load in dict.fromkeys(r["load"] for r in records)]
    with styled():
        figure = Figure(figsize=(9.5, 0.25 * len(records) + 0.5 * len(groups)), layout="constrained")
        heights = [len(group) for group in groups]
        columns = figure.subplots(len(groups), height_ratios=heights, squeeze=False)
        for axes, group in zip(columns[:, 0], groups, strict=True):
            _draw_shares(axes, group)
    return figure


def _draw_shares(axes: Axes, group: Sequence[Facts]) -> None:
    places = range(len(group))
    colours = [
        _DARKROOM_COLOUR if each["what"].startswith(("Darkroom", "pipeline")) else _PEER_COLOUR for each in group
    ]
    axes.barh(places, [min(record["of_limit"], _MAX_SHOWN_SHARE) for record in group], color=colours)
    for place, record in zip(places, group, strict=True):
        least, most = (min(record[name], _MAX_SHOWN_SHARE) for name in ("least_of_limit", "most_of_limit"))
        axes.plot([least, most], [place, place], color=_TEXT_COLOUR, linewidth=1)
        end = max(most, min(record["of_limit"], _MAX_SHOWN_SHARE)) + 0.01
        axes.text(end, place, f"{record['of_limit']:.2f}", va="center", color=_TEXT_COLOUR)
    axes.axvline(1, color=_TEXT_COLOUR, linestyle="--", linewidth=1)
    axes.set_yticks(places, [record["what"] for record in group], color=_TEXT_COLOUR)
    axes.set(xlim=(0, _MAX_SHOWN_SHARE + 0.1), ylim=(len(group) - 0.5, -0.5), xticks=[])
    axes.set_title(f"{group[0]['load']}; the dashed line is the limit", loc="left", color=_TEXT_COLOUR)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


# ---- make decoders: reduced JPEGs -----------------------------------------------------------------------------------


def reduction(records: Sequence[Facts]) -> Figure:
    """Draw changes of scores by ratio and by size beside the cost of an image.

    Args:
        records: records of `benchmarks.reduction`: `what` is "cost", "a part" or "the rule".
    """
    kinds = {what: [each for each in records if each["what"] == what] for what in ("cost", "a part", "the rule")}
    with styled():
        figure = Figure(figsize=(13, 4), layout="constrained")
        by_ratio, by_size, by_cost = figure.subplots(1, 3)
        _draw_ratios(by_ratio, kinds["a part"])
        _draw_sizes(by_size, kinds["the rule"])
        _draw_costs(by_cost, kinds["cost"])
        for axes in (by_ratio, by_size, by_cost):
            _in_text_colour(axes)
    return figure


def _draw_ratios(axes: Axes, changes: Sequence[Facts]) -> None:
    for eighths in sorted({change["eighths"] for change in changes}):
        most = dict[float, float]()
        for change in (change for change in changes if change["eighths"] == eighths):
            ratio = change["short_px"] * eighths / 8 / TRANSFORM.resize_px
            most[ratio] = max(change["score"], most.get(ratio, 0.0))
        ratios, scores = zip(*sorted(most.items()), strict=True)
        axes.plot(ratios, scores, "o-", color=_COLOUR_BY_EIGHTHS[eighths], label=f"{eighths}/8", markersize=3)
    axes.axvline(
        MIN_REDUCED_TO_TARGET_RATIO,
        color=_TEXT_COLOUR,
        linestyle="--",
        linewidth=1,
        label=f"the least ratio, {MIN_REDUCED_TO_TARGET_RATIO}",
    )
    axes.axhline(_MAX_SCORE_CHANGE, color=_TEXT_COLOUR, linestyle=":", linewidth=1)
    axes.set(title="If reduced: largest change of a score", xlabel="short side to that of the resize", ylim=(0, None))


def _draw_sizes(axes: Axes, changes: Sequence[Facts]) -> None:
    for eighths in sorted({change["eighths"] for change in changes}):
        points = [(change["short_px"], change["score"]) for change in changes if change["eighths"] == eighths]
        words = "whole" if eighths == 8 else f"at {eighths}/8"
        axes.plot(
            *zip(*points, strict=True), ".", color=_COLOUR_BY_EIGHTHS[eighths], label=f"decoded {words}", markersize=3
        )
    axes.axhline(_MAX_SCORE_CHANGE, color=_TEXT_COLOUR, linestyle=":", linewidth=1)
    axes.set(title="By the rule: change of a score, each file", xlabel="short side, pixels", ylim=(0, None))


def _draw_costs(axes: Axes, costs: Sequence[Facts]) -> None:
    for size in dict.fromkeys(cost["size"] for cost in costs):
        points = [(cost["eighths"], cost["times_whole"]) for cost in costs if cost["size"] == size]
        axes.plot(*zip(*points, strict=True), "o-", label=size, markersize=3)
    axes.set(title="Cost of an image", xlabel="eighths of the size that are decoded", ylim=(0, None))
    axes.set_ylabel("times the whole")


def _in_text_colour(axes: Axes) -> None:
    axes.legend(fontsize=7, labelcolor=_TEXT_COLOUR, framealpha=0)
    axes.tick_params(color=_TEXT_COLOUR, labelcolor=_TEXT_COLOUR)
    axes.spines[:].set_color(_TEXT_COLOUR)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_color(_TEXT_COLOUR)


if __name__ == "__main__":
    main()
