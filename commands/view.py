"""The view of `darkroom top`: a service's figures for a terminal."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from commands.replicas import Stats

_BAR_COLUMNS: Final = 30  # columns
_BUSY_FROM_SHARE: Final = 0.85
"""Busy share from which a part is shown as the limit."""

_COLOURS: Final = {
    "read": "cyan",
    "queue": "yellow",
    "decode": "green",
    "wait": "magenta",
    "copy": "blue",
    "model": "red",
    "respond": "white",
}


def view(url: str, replicas: Sequence[Stats]) -> RenderableType:
    """Render all replicas: the sums in a few lines, then each replica.

    Args:
        url: address of the service.
        replicas: figures of each replica, at least one.
    """
    parts: list[RenderableType] = [_together(url, replicas)]
    for stats in replicas:
        parts += [Text(), _replica(stats)]
    return Group(*parts)


def _together(url: str, replicas: Sequence[Stats]) -> Text:
    requests = sum((Counter(stats["requests"]) for stats in replicas), Counter[str]())
    title = f"{url}  {len(replicas)} replica{'s' if len(replicas) > 1 else ''}  last {replicas[0]['window_s']:.0f} s"
    images, asked, in_work = (
        sum(stats[what] for stats in replicas) for what in ("images_per_s", "requests_per_s", "in_work")
    )
    outcomes = "  ".join(f"{outcome} {count}" for outcome, count in requests.most_common())
    return Text.assemble(
        (title, "bold"),
        f"\n{images:.1f} images/s  {asked:.1f} requests/s  {in_work} images in work",
        f"\nrequests: {outcomes or 'none'}",
    )


def _replica(stats: Stats) -> RenderableType:
    latency = stats["latency_ms"]
    times = "  ".join(f"{name} {ms:.0f} ms" for name, ms in latency.items()) if latency else "nothing answered"
    title = Text.assemble((f"replica {stats['replica']}", "bold"), f"  {times}")
    return Group(title, Text(stats["verdict"], style="reverse"), _busy(stats), _stages(stats))


def _busy(stats: Stats) -> Table:
    device, workers = stats["device"], stats["decode_workers"]
    table = Table.grid(padding=(0, 1))
    for what, share, more in (
        (
            f"{workers['at_most']} worker{'s' if workers['at_most'] > 1 else ''}",
            workers["busy"],
            _replaced(workers["replaced"]),
        ),
        (f"device ({device['kind']})", device["busy"], f"{device['images_per_batch']:.1f} images a batch"),
        ("interpreter", stats["interpreter"]["busy"], ""),
        (f"{stats['cores']['count']} cores", stats["cores"]["busy"], "by all processes"),
    ):
        bar = ProgressBar(
            1.0, share, width=_BAR_COLUMNS, complete_style="red" if share >= _BUSY_FROM_SHARE else "green"
        )
        table.add_row(what, bar, f"{share:4.0%}", more)
    return table


def _replaced(workers: int) -> str:
    return f"{workers} replaced" if workers else ""


def _stages(stats: Stats) -> Text:
    """Render each stage's mean and its share of the whole as a bar."""
    stages = stats["stages_ms"]
    return Text.assemble(*_segments(stages, sum(stages.values())), *_legend(stages))


def _segments(stages: Stats, total_ms: float) -> Iterator[tuple[str, str]]:
    if total_ms:
        columns, done_ms = 2 * _BAR_COLUMNS, 0.0
        for stage, ms in stages.items():
            begin, done_ms = round(columns * done_ms / total_ms), done_ms + ms
            yield "━" * (round(columns * done_ms / total_ms) - begin), _COLOURS[stage]
        yield "\n", ""


def _legend(stages: Stats) -> Iterator[tuple[str, str]]:
    for stage, ms in stages.items():
        yield f"{stage} {ms:.1f}  ", _COLOURS[stage]
    yield "ms", ""
