"""The picture of a run: throughput and p99 over workers and batch sizes, the limits, and what the service did."""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tuning.capacity import Cell, cell
from tuning.choice import BUSY
from tuning.findings import Findings
from tuning.settings import Settings

_CHOSEN: Final = "#c2410c"
_SMALL: Final = 8
_STYLE: Final = {"font.size": 9, "axes.titlesize": 10, "svg.fonttype": "none", "svg.hashsalt": "darkroom"}


def drawn(findings: Findings) -> Figure:
    """All that there is to draw; parts that a run did not reach are left empty."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]  # its stubs list every key
        figure = Figure(figsize=(13, 7.6), layout="constrained")
        axes = figure.subplots(2, 3)
        _grid(axes[0][0], findings, "images/s that may come", lambda cell, _: cell.capacity, "{:.0f}")
        _grid(axes[0][1], findings, _p99_title(findings), _p99_ms, "{:.0f}", backwards=True)
        _limits(axes[0][2], findings)
        _decoding(axes[1][0], findings)
        _batches(axes[1][1], findings)
        _ladder(axes[1][2], findings)
    return figure


def png(figure: Figure) -> bytes:
    """As a PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()


def svg(figure: Figure) -> str:
    """As an SVG element, to stand in HTML."""
    file = io.StringIO()
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]  # likewise
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _shown(findings: Findings) -> Settings | None:
    return findings.chosen or findings.predicted


def _cells(findings: Findings) -> Sequence[Cell]:
    """Those with the lanes of the settings that are shown."""
    shown = _shown(findings)
    return [cell for cell in findings.cells if shown and cell.lanes == shown.threads]


def _cell_of(findings: Findings, settings: Settings) -> Cell:
    """That of the settings."""
    key = settings.workers, settings.threads, settings.batch
    return next(cell for cell in findings.cells if cell.key == key)


def _rate(findings: Findings) -> float:
    shown = _shown(findings)
    return BUSY * _cell_of(findings, shown).capacity if shown and findings.cells else math.nan


def _p99_title(findings: Findings) -> str:
    return f"p99 in ms at {_rate(findings):.0f} images/s (-: too many)"


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
    """Workers across, batch sizes upwards."""
    cells, shown = _cells(findings), _shown(findings)
    if not cells or not shown:
        return _nothing(axes, title)
    workers, batches = sorted({cell.workers for cell in cells}), sorted({cell.batch for cell in cells})
    values = {cell.key: value(cell, findings) for cell in cells}
    table = [[values[number, shown.threads, batch] for number in workers] for batch in batches]
    finite = [[entry if math.isfinite(entry) else math.nan for entry in row] for row in table]
    axes.imshow(finite, origin="lower", aspect="auto", cmap="viridis_r" if backwards else "viridis", alpha=0.55)
    for up, row in enumerate(table):
        for across, entry in enumerate(row):
            words = form.format(entry) if math.isfinite(entry) else "-"
            late = backwards and entry > 1000 * findings.bound_s
            axes.text(across, up, words, ha="center", va="center", color="#777" if late else "black", fontsize=_SMALL)
    at = workers.index(shown.workers), batches.index(shown.batch)
    frame = mpl.patches.Rectangle((at[0] - 0.5, at[1] - 0.5), 1, 1, fill=False, edgecolor=_CHOSEN, linewidth=2.5)
    axes.add_patch(frame)
    axes.set(title=f"Expected: {title}", xlabel="workers", ylabel="images a batch")
    axes.set_xticks(range(len(workers)), list(map(str, workers)))
    axes.set_yticks(range(len(batches)), list(map(str, batches)))
    return None


def _limits(axes: Axes, findings: Findings) -> None:
    """What each part allows, against the number of workers, at the shown batch size."""
    shown, costs = _shown(findings), findings.costs
    title = "Limits"
    if not shown or not costs:
        return _nothing(axes, title)
    workers = range(1, costs.most_workers + 1)
    row = [cell(costs, number, shown.threads, shown.batch, findings.bound_s) for number in workers]
    for part, style in (("decoding", "--"), ("device", ":"), ("cores", "-.")):
        axes.plot(workers, [each.limits[part] for each in row], style, label=f"limit: {part}", linewidth=1.2)
    axes.plot(workers, [each.peak for each in row], color="black", linewidth=2, label="expected peak")
    if findings.peak:
        at = findings.predicted.workers if findings.predicted else shown.workers
        axes.plot(at, findings.peak, "s", color="black", label="peak of the service")
    good = [(seen.settings.workers, seen.good) for seen in findings.seen if seen.settings.batch == shown.batch]
    if good:
        axes.plot(*zip(*good, strict=True), "o", color="#2563eb", alpha=0.6, label="answered in time, overloaded")
    axes.plot(shown.workers, _cell_of(findings, shown).peak, "D", color=_CHOSEN, label="chosen", markersize=7)
    axes.set(title=f"{title}, batches of {shown.batch}", xlabel="workers", ylabel="images/s")
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
    for number, (lanes, fit) in enumerate(fits.items()):
        sizes, colour = costs.compute.sizes, f"C{number}"
        measured = [1000 * costs.compute.seconds(lanes, size) / size for size in sizes]
        words = "" if len(fits) == 1 else f", {lanes} side by side" if lanes > 1 else ", one at a time"
        axes.plot(sizes, measured, "o", color=colour, label=f"measured{words}")
        axes.plot(sizes, [1000 * fit.seconds(size) / size for size in sizes], color=colour, label="fitted")
    axes.set_xscale("log", base=2)
    axes.set_xticks(costs.compute.sizes, list(map(str, costs.compute.sizes)))
    axes.set(title=title, xlabel="images a batch", ylabel="ms an image")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
    return None


def _ladder(axes: Axes, findings: Findings) -> None:
    title = "The service, chosen settings"
    if not findings.ladder:
        return _nothing(axes, title)
    shown = findings.chosen
    rungs = [*findings.ladder, *(seen for seen in findings.seen if seen.settings == shown)]
    rungs.sort(key=lambda seen: seen.offered)
    offered = [seen.offered for seen in rungs]
    axes.plot(offered, [1000 * seen.p99_s for seen in rungs], "o-", color=_CHOSEN, label="p99")
    axes.plot(offered, [1000 * seen.p50_s for seen in rungs], "o-", color="#2563eb", label="p50")
    axes.axhline(1000 * findings.bound_s, color="black", linestyle="--", linewidth=1, label="the bound")
    axes.set(title=title, xlabel="images/s that came", ylabel="ms")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
    return None


def _nothing(axes: Axes, title: str) -> None:
    axes.set(title=title, xticks=[], yticks=[])
    options: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes, "color": "#777"}
    axes.text(0.5, 0.5, "not measured", **options)
