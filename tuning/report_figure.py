"""Figures of a run: predicted throughput and p99, the limits, and the measurements."""

import math
from collections.abc import Callable
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from harness.figures import styled
from tuning.capacity import Cell, cell
from tuning.findings import Findings

_CHOSEN_COLOUR: Final = "#c2410c"
_EXPECTED_AT_SHARE: Final = 0.8
"""Share of the capacity at which expected times are shown."""

_SMALL_FONT_PT: Final = 8


def drawn(findings: Findings) -> Figure:
    """Draw the results so far; parts that a run did not reach stay empty."""
    with styled():
        figure = Figure(figsize=(13, 7.6), layout="constrained")
        axes = figure.subplots(2, 3)
        _grid(axes[0][0], findings, "images/s at random times", lambda cell, _: cell.capacity, "{:.0f}")
        _grid(axes[0][1], findings, _p99_title(findings), _p99_ms, "{:.0f}", backwards=True)
        _limits(axes[0][2], findings)
        _decoding(axes[1][0], findings)
        _batches(axes[1][1], findings)
        _loads(axes[1][2], findings)
    return figure


def _shown(findings: Findings) -> Cell | None:
    """Find the measured combination that settings correspond to: larger batches are never filled."""
    settings = findings.chosen or findings.predicted
    if not settings:
        return None
    fitting = [
        cell
        for cell in findings.cells
        if cell.concurrent_batches <= settings.concurrent_batches and cell.batch <= settings.batch
    ]
    alike = [cell for cell in fitting if cell.decode_workers == min(settings.decode_workers, _most_workers(findings))]
    return max(alike, key=lambda cell: (cell.concurrent_batches, cell.batch), default=None)


def _most_workers(findings: Findings) -> int:
    return max((cell.decode_workers for cell in findings.cells), default=0)


def _rate(findings: Findings) -> float:
    shown = _shown(findings)
    return _EXPECTED_AT_SHARE * shown.capacity if shown else math.nan


def _p99_title(findings: Findings) -> str:
    return f"ms for 99 % of the answers, at {_rate(findings):.0f} images/s"


def _p99_ms(cell: Cell, findings: Findings) -> float:
    return 1000 * cell.p99_s(_rate(findings))


def _grid(
    axes: Axes,
    findings: Findings,
    title: str,
    value: Callable[[Cell, Findings], float],
    form: str,
    *,
    backwards: bool = False,
) -> None:
    """Draw a value for each number of workers (across) and batch size (upwards)."""
    shown = _shown(findings)
    if not shown:
        return _nothing(axes, title)
    cells = [cell for cell in findings.cells if cell.concurrent_batches == shown.concurrent_batches]
    workers, batches = sorted({cell.decode_workers for cell in cells}), sorted({cell.batch for cell in cells})
    values = {cell.key: value(cell, findings) for cell in cells}
    table = [[values[number, shown.concurrent_batches, batch] for number in workers] for batch in batches]
    finite = [[entry if math.isfinite(entry) else math.nan for entry in row] for row in table]
    axes.imshow(finite, origin="lower", aspect="auto", cmap="viridis_r" if backwards else "viridis", alpha=0.55)
    for up, row in enumerate(table):
        for across, entry in enumerate(row):
            words = form.format(entry) if math.isfinite(entry) else "-"
            late = backwards and entry > 1000 * findings.bound_s
            axes.text(
                across, up, words, ha="center", va="center", color="#777" if late else "black", fontsize=_SMALL_FONT_PT
            )
    at = workers.index(shown.decode_workers), batches.index(shown.batch)
    frame = Rectangle((at[0] - 0.5, at[1] - 0.5), 1, 1, fill=False, edgecolor=_CHOSEN_COLOUR, linewidth=2.5)
    axes.add_patch(frame)
    axes.set(title=f"Expected: {title}", xlabel="workers", ylabel="images a batch")
    axes.set_xticks(range(len(workers)), list(map(str, workers)))
    axes.set_yticks(range(len(batches)), list(map(str, batches)))
    return None


def _limits(axes: Axes, findings: Findings) -> None:
    """Draw the limit of each part by the number of workers, at the shown batch size."""
    shown, costs = _shown(findings), findings.costs
    title = "Limits of the parts"
    if not shown or not costs:
        return _nothing(axes, title)
    workers = range(1, costs.most_workers + 1)
    row = [cell(costs, number, shown.concurrent_batches, shown.batch, findings.bound_s) for number in workers]
    for part, style in (("decoding", "--"), ("device", ":"), ("cores", "-."), ("HTTP", (0, (1, 3)))):
        if part in row[0].limits:
            axes.plot(
                workers, [each.limits[part] for each in row], linestyle=style, label=f"limit: {part}", linewidth=1.2
            )
    axes.plot(workers, [each.peak for each in row], color="black", linewidth=2, label="expected peak")
    tried = [(trial.settings.decode_workers, trial.full.answered) for trial in findings.trials]
    if tried:
        axes.plot(*zip(*tried, strict=True), "o", color="#2563eb", alpha=0.6, label="measured on the service")
    axes.plot(shown.decode_workers, shown.peak, "D", color=_CHOSEN_COLOUR, label="chosen", markersize=7)
    axes.set(title=f"{title}, batches of up to {shown.batch}", xlabel="workers", ylabel="images/s")
    axes.set_ylim(0, 2.6 * max(each.peak for each in row))
    axes.set_xticks(list(workers))
    axes.legend(fontsize=7, loc="upper right", ncols=2)
    return None


def _decoding(axes: Axes, findings: Findings) -> None:
    title = "Decoding alone"
    costs, scaling = findings.costs, findings.scaling
    if not costs or not scaling:
        return _nothing(axes, title)
    runs = [(workers, rate) for workers, rates in costs.decode.runs.items() for rate in rates]
    axes.plot(*zip(*runs, strict=True), "o", color="#2563eb", alpha=0.6, label="measured")
    workers = range(1, costs.most_workers + 1)
    axes.plot(workers, [scaling.rate(number) for number in workers], color="black", label="fitted")
    axes.set(title=title, xlabel="workers", ylabel="images/s")
    axes.set_xticks(list(workers))
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
    return None


def _batches(axes: Axes, findings: Findings) -> None:
    title = "The model alone"
    costs, fits = findings.costs, findings.batch_costs
    if not costs or not fits:
        return _nothing(axes, title)
    for number, (concurrent_batches, fit) in enumerate(fits.items()):
        sizes, colour = costs.compute.sizes, f"C{number}"
        measured = [1000 * costs.compute.seconds(concurrent_batches, size) / size for size in sizes]
        words = (
            ""
            if len(fits) == 1
            else f", {concurrent_batches} side by side"
            if concurrent_batches > 1
            else ", one at a time"
        )
        axes.plot(sizes, measured, "o", color=colour, label=f"measured{words}")
        axes.plot(sizes, [1000 * fit.seconds(size) / size for size in sizes], color=colour, label="fitted")
    axes.set_xscale("log", base=2)
    axes.set_xticks(costs.compute.sizes, list(map(str, costs.compute.sizes)))
    axes.set(title=title, xlabel="images a batch", ylabel="ms an image")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
    return None


def _loads(axes: Axes, findings: Findings) -> None:
    """Draw times over rates, for both kinds of load."""
    title = "The service, chosen settings"
    kinds = (
        ("clients that wait", findings.closed_loop, _CHOSEN_COLOUR, "answered"),
        ("random times", findings.open_loop, "#2563eb", "offered"),
    )
    if not findings.chosen or not any(seen for _, seen, _, _ in kinds):
        return _nothing(axes, title)
    for name, loads, colour, rate in kinds:
        ordered = sorted((seen for seen in loads if seen.answered), key=lambda seen: seen.p99_s)
        for share, style in (("p99_s", "o-"), ("p50_s", ".:")):
            rates, times = ([getattr(seen, of) for seen in ordered] for of in (rate, share))
            label = f"{share[:3]}, {name}"
            axes.plot(rates, [1000 * each for each in times], style, color=colour, label=label, alpha=0.8)
    axes.axhline(1000 * findings.bound_s, color="black", linestyle="--", linewidth=1, label="the bound")
    axes.set(title=title, xlabel="images/s", ylabel="ms")
    axes.set_ylim(0, 2.5 * 1000 * findings.bound_s)
    axes.legend(fontsize=7)
    return None


def _nothing(axes: Axes, title: str) -> None:
    axes.set(title=title, xticks=[], yticks=[])
    options: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes, "color": "#777"}
    axes.text(0.5, 0.5, "not measured", **options)
