"""Report of a run: one self-contained HTML page, and its figures as a PNG."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from html import escape
from pathlib import Path
from typing import Final

from harness.figures import png, svg
from tuning.findings import Findings
from tuning.load_check import LoadResult
from tuning.replica_settings import Settings
from tuning.report_figure import drawn
from tuning.sentences import milliseconds, said
from tuning.step import number
from tuning.trials_table import rows

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1a1a1a }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; margin: .5rem 0 } td, th { padding: .15rem .8rem .15rem 0; text-align: right }
td:first-child, th:first-child { text-align: left } th { border-bottom: 1px solid #999; font-weight: 600 }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto } svg { max-width: 100%; height: auto }
.words td { text-align: left } table.tried td:first-child { white-space: nowrap }
li { margin: .3rem 0 }
.sub { color: #555; margin-top: 0 } .stopped { color: #b00020; font-weight: 600 }
"""

Rows = Iterable[Sequence[object]]


def write_report(path: Path, findings: Findings) -> Path:
    """Write the page and, beside it, its figures as a PNG; return the path of the PNG."""
    figure = drawn(findings)
    picture = path.with_suffix(".png")
    picture.write_bytes(png(figure))
    path.write_text(page(findings, svg(figure)), "utf-8")
    return picture


def page(findings: Findings, picture: str) -> str:
    """Format the page; `picture` is an SVG element."""
    body = [
        "<h1>darkroom tune</h1>",
        f"<p class=sub>{escape(findings.date)}: <code>{escape(findings.command)}</code></p>",
        *([f"<p class=stopped>{escape(findings.stopped)}</p>"] if findings.stopped else []),
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


def _result(findings: Findings) -> Iterator[str]:
    for heading, lines in said(findings):
        yield f"<h2>{heading}</h2><ul>{''.join(f'<li>{escape(line)}.</li>' for line in lines)}</ul>"
    if findings.trials:
        header, tried = rows(findings.trials, findings.present, findings.bound_s)
        yield "<h2>Settings that were tried on the running service</h2>"
        yield (
            "<p>Clients each wait for their answer before they send the next request. Rates are means of the runs; the "
            "last column is the slowest run's.</p>"
        )
        yield _table(header, tried).replace("<table>", "<table class=tried>")
    shown = findings.written or findings.chosen or findings.predicted
    if shown:
        if findings.present and not findings.written:  # limits come last
            shown = replace(shown, max_queue_wait_s=findings.present.max_queue_wait_s)
        kind = "recommended" if findings.written else "chosen" if findings.chosen else "predicted, not tried yet"
        yield f"<h2>Settings, now and as {kind}</h2>"
        yield _table(("setting", "now", kind.partition(",")[0]), _settings(shown, findings.present))


def _settings(settings: Settings, present: Settings | None) -> Rows:
    for field in fields(settings):
        name = "max_batch_size" if field.name == "batch" else field.name
        yield name, _value(getattr(present, field.name)) if present else "", _value(getattr(settings, field.name))


def _value(value: object) -> object:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return f"{value:g}" if isinstance(value, float) else value


def _subject(findings: Findings) -> Iterator[str]:
    yield "<h2>Model, machine and images</h2>"
    sizes = findings.sizes
    facts: list[Sequence[object]] = [("model", findings.model)]
    facts += [("machine", line) for line in findings.machine]
    if sizes:
        facts += [("images", findings.images), ("bytes of an image, on average", f"{sizes.mean:.0f}")]
        facts += [("images a request", findings.images_per_request), ("seed of the choice of images", findings.seed)]
    yield _table(("", ""), facts).replace("<table>", "<table class=words>")
    if findings.unreadable:
        yield f"<p>Files that were left out: {len(findings.unreadable)}.</p>"
        yield f"<pre>{escape(chr(10).join(findings.unreadable[:20]))}</pre>"


def _costs(findings: Findings) -> Iterator[str]:
    costs, scaling = findings.costs, findings.scaling
    if not costs or not scaling:
        return
    yield "<h2>Decoding, without the service</h2>"
    yield (
        f"<p>One worker decodes an image in {milliseconds(costs.decode.alone_s)}. The curve for more workers, by the "
        f"universal scalability law, has {scaling.waiting:.1%} of serial work and costs of {scaling.crosstalk:.2%} for "
        f"each pair of workers; it is off by {scaling.error:.0%} at most.</p>"
    )
    rates = costs.decode.rates.items()
    yield _table(("workers", "images/s", "fitted"), ((w, f"{x:.1f}", f"{scaling.rate(w):.1f}") for w, x in rates))
    for concurrent_batches, fit in findings.batch_costs.items():
        yield f"<h2>The model, without the service, {number(concurrent_batches, 'batch')} at a time</h2>"
        beyond = f" + {1000 * fit.beyond_s:.2g} ms · n²" if fit.beyond_s else ""
        yield (
            f"<p>A batch of n images takes {milliseconds(fit.fixed_s)} + {milliseconds(fit.each_s)} · n{beyond} "
            f"(fitted; off by {fit.error:.0%} at most).</p>"
        )
        batches = (
            (
                *(size, milliseconds(seconds := costs.compute.seconds(concurrent_batches, size))),
                *(milliseconds(seconds / size), milliseconds(fit.seconds(size))),
            )
            for size in costs.compute.sizes
        )
        yield _table(("images", "a batch", "an image", "a batch, fitted"), batches)
    if costs.serving_s:
        yield (
            f"<p>In the service an image takes a further {milliseconds(costs.serving_s)} of a core: HTTP, Ray, clients "
            "on the same cores, and waiting.</p>"
        )


def _service(findings: Findings) -> Iterator[str]:
    if findings.closed_loop:
        loads = ((seen.clients, *_load(seen)) for seen in sorted(findings.closed_loop, key=lambda seen: seen.clients))
        yield "<h2>The chosen settings, with clients that each wait for the answer</h2>"
        yield _table(("clients", *_LOAD_HEADER), loads)
    if findings.open_loop:
        loads = ((f"{seen.offered:.1f}", *_load(seen)) for seen in sorted(findings.open_loop, key=_offered))
        yield "<h2>The chosen settings, with requests at random times (Poisson)</h2>"
        yield _table(("images/s sent", *_LOAD_HEADER), loads)


_LOAD_HEADER: Final = ("images/s answered", "in time", "50 % within", "99 % within", "refused", "lost")


def _load(seen: LoadResult) -> tuple[object, ...]:
    times = milliseconds(seen.p50_s), milliseconds(seen.p99_s)
    return (f"{seen.answered:.1f}", f"{seen.in_time:.1%}", *times, seen.refused, seen.lost)


def _offered(seen: LoadResult) -> float:
    return seen.offered


def _change(findings: Findings) -> Iterator[str]:
    if findings.diff:
        yield f"<h2>Changes to the configuration</h2><pre>{escape(findings.diff)}</pre>"


def _table(header: Sequence[str], rows: Rows) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header) if any(header) else ""
    lines = ("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{''.join(lines)}</table>"
