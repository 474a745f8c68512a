"""The report of a run: one page of HTML that needs nothing else, and its picture as a PNG."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Final

from tuning.figure import drawn, png, svg
from tuning.findings import Findings
from tuning.settings import Settings

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1a1a1a }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; margin: .5rem 0 } td, th { padding: .15rem .8rem .15rem 0; text-align: right }
td:first-child, th:first-child { text-align: left } th { border-bottom: 1px solid #999; font-weight: 600 }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto } svg { max-width: 100%; height: auto }
.words td { text-align: left }
.sub { color: #555; margin-top: 0 } .stopped { color: #b00020; font-weight: 600 } .best { font-size: 1.05rem }
"""

_HELD: Final = 0.98
"""Of what came, what has to be answered in time; in a few seconds 99 % cannot be told from that."""

Rows = Iterable[Sequence[object]]


def write_report(path: Path, findings: Findings) -> Path:
    """Writes the page, and its picture beside it under the same name; returns the picture's path."""
    figure = drawn(findings)
    picture = path.with_suffix(".png")
    picture.write_bytes(png(figure))
    path.write_text(page(findings, svg(figure)), "utf-8")
    return picture


def page(findings: Findings, picture: str) -> str:
    """The page; `picture` is an SVG element."""
    body = [
        "<h1>darkroom tune</h1>",
        f"<p class=sub>{escape(findings.date)}: <code>{escape(findings.command)}</code></p>",
        *([f"<p class=stopped>Not finished: {escape(findings.stopped)}</p>"] if findings.stopped else []),
        *_result(findings),
        picture,
        *_subject(findings),
        *_costs(findings),
        *_service(findings),
        *_change(findings),
    ]
    title = "darkroom tune"
    head = f"<meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
    return f"<!doctype html>\n<html lang=en><head>{head}</head><body>\n" + "\n".join(body) + "\n</body></html>\n"


def summary(findings: Findings) -> Iterator[str]:
    """What came of it, a sentence each; for the page and for the terminal."""
    chosen = findings.chosen
    if chosen and findings.ladder:
        held = [seen for seen in findings.ladder if seen.good >= _HELD * seen.offered]
        most = max(held, key=lambda seen: seen.good, default=findings.ladder[0])
        yield (
            f"{chosen.workers} worker{'s' if chosen.workers > 1 else ''}, "
            f"{chosen.threads} batch{'es' if chosen.threads > 1 else ''} at a time of up to {chosen.batch} "
            f"image{'s' if chosen.batch > 1 else ''}: {most.good:.3g} images/s answered in time where "
            f"{most.offered:.3g} came by chance, p50 {1000 * most.p50_s:.3g} ms, p99 {1000 * most.p99_s:.3g} ms "
            f"(bound {1000 * findings.bound_s:g}), {most.refused:.1%} refused"
        )
    yield from findings.advice
    if findings.verdict:
        yield f"the service itself says, where {findings.ladder[-1].offered:.3g} images/s came: {findings.verdict}"


def _result(findings: Findings) -> Iterator[str]:
    for number, sentence in enumerate(summary(findings)):
        yield f"<p{' class=best' if not number else ''}>{escape(sentence[0].upper() + sentence[1:])}.</p>"
    shown = findings.chosen or findings.predicted
    if shown:
        yield f"<h2>Settings, {'chosen' if findings.chosen else 'predicted'}</h2>"
        yield _table(("setting", "value"), _settings(shown))


def _settings(settings: Settings) -> Rows:
    for field in fields(settings):
        value = getattr(settings, field.name)
        name = "max_batch_size" if field.name == "batch" else field.name
        yield (
            name,
            f"[{', '.join(map(str, value))}]"
            if isinstance(value, tuple)
            else f"{value:g}"
            if isinstance(value, float)
            else value,
        )


def _subject(findings: Findings) -> Iterator[str]:
    yield "<h2>What was measured</h2>"
    sizes = findings.sizes
    rows: list[Sequence[object]] = [("model", findings.model), ("bound on 99 % of the answers", _ms(findings.bound_s))]
    rows += [("machine", line) for line in findings.machine]
    if sizes:
        rows += [("images", findings.images), ("bytes of an image, on average", f"{sizes.mean:.0f}")]
    yield _table(("", ""), rows).replace("<table>", "<table class=words>")
    if findings.unreadable:
        yield f"<p>Left out, as they cannot be decoded: {len(findings.unreadable)} files.</p>"
        yield f"<pre>{escape(chr(10).join(findings.unreadable[:20]))}</pre>"
    for line in findings.too_large:
        yield f"<p>{escape(line)}</p>"


def _costs(findings: Findings) -> Iterator[str]:
    costs, scaling = findings.costs, findings.scaling
    if not costs or not scaling:
        return
    yield "<h2>Decoding</h2>"
    yield (
        f"<p>One worker alone: {_ms(costs.decode.alone_s)} an image; of a worker's time {scaling.waiting:.1%} does not "
        f"scale, and each pair costs {scaling.crosstalk:.2%}; off by {scaling.error:.0%} at most.</p>"
    )
    rates = costs.decode.rates.items()
    yield _table(("workers", "images/s", "fitted"), ((w, f"{x:.1f}", f"{scaling.rate(w):.1f}") for w, x in rates))
    for lanes, fit in findings.batch_costs.items():
        yield f"<h2>The model, {lanes} at a time ({escape(findings.model)})</h2>"
        beyond = f" + {1000 * fit.beyond_s:.2g} ms · n²" if fit.beyond_s else ""
        yield (
            f"<p>A batch of n: {_ms(fit.fixed_s)} + {_ms(fit.each_s)} · n{beyond}; off by {fit.error:.0%} at most.</p>"
        )
        rows = (
            (size, _ms(seconds := costs.compute.seconds(lanes, size)), _ms(seconds / size), _ms(fit.seconds(size)))
            for size in costs.compute.sizes
        )
        yield _table(("images", "a batch", "an image", "a batch, fitted"), rows)
    if costs.serving_s:
        yield f"<p>HTTP, Ray, the clients, and what all cost each other: {_ms(costs.serving_s)} of a core an image.</p>"


def _service(findings: Findings) -> Iterator[str]:
    if findings.peak:
        yield f"<h2>The running service</h2><p>Peak, with clients that wait: {findings.peak:.1f} images/s.</p>"
    header = ("workers", "at a time", "images a batch", "came/s", "in time/s", "p50", "p99", "refused", "lost")
    for title, seen in (("More than fits, neighbours too", findings.seen), ("As chosen", findings.ladder)):
        if seen:
            rows = (
                (
                    *(each.settings.workers, each.settings.threads, each.settings.batch),
                    *(f"{each.offered:.1f}", f"{each.good:.1f}", _ms(each.p50_s), _ms(each.p99_s)),
                    *(f"{each.refused:.1%}", each.lost),
                )
                for each in seen
            )
            yield f"<h2>{title}</h2>{_table(header, rows)}"


def _change(findings: Findings) -> Iterator[str]:
    if findings.diff:
        yield f"<h2>The configuration</h2><pre>{escape(findings.diff)}</pre>"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"


def _table(header: Sequence[str], rows: Rows) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header) if any(header) else ""
    lines = ("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{''.join(lines)}</table>"
