"""The table of `make bench` as a picture: how much of the limit everything reaches, a bar each."""

from collections.abc import Sequence
from html import escape
from typing import Any, Final

Facts = dict[str, Any]

_LABEL_PX: Final = 410
_BAR_PX: Final = 420
_ROW_PX: Final = 24
_MOST: Final = 1.05
_WIDTH_PX: Final = _LABEL_PX + round(_BAR_PX * _MOST) + 60
_OURS: Final = "#1f6feb"
_THEIRS: Final = "#8b949e"
_INK: Final = "#6e7681"  # is read on white and on black
_STYLE: Final = "font: 13px system-ui, sans-serif"


def svg(records: Sequence[Facts]) -> str:
    """One group of bars a load; the line at the end of all is the limit.

    Args:
        records: as `make bench` writes them: `what`, `load`, `of_limit`, `least_of_limit` and `most_of_limit` of each.
    """
    parts, y = list[str](), 0
    for load in dict.fromkeys(record["load"] for record in records):
        y += 34
        parts.append(_text(0, y - 10, load, weight="bold"))
        top = y
        for record in (record for record in records if record["load"] == load):
            parts += _bar(y, record)
            y += _ROW_PX
        end = _LABEL_PX + _BAR_PX
        parts.append(f'<line x1="{end}" y1="{top}" x2="{end}" y2="{y - 4}" stroke="{_INK}" stroke-dasharray="3 3"/>')
        parts.append(_text(end, top - 8, "limit", anchor="middle"))
    space = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH_PX} {y + 6}" width="{_WIDTH_PX}"'
    return "\n".join([f'<svg {space} style="{_STYLE}">', *parts, "</svg>", ""])


def _bar(y: int, record: Facts) -> list[str]:
    """The median; a thin line from the least to the most."""
    colour = _OURS if record["what"].startswith(("Darkroom", "pipeline")) else _THEIRS
    least, most = (_LABEL_PX + _length_px(record[name]) for name in ("least_of_limit", "most_of_limit"))
    width, middle = _length_px(record["of_limit"]), y + 8
    return [
        _text(_LABEL_PX - 8, y + 13, record["what"], anchor="end"),
        f'<rect x="{_LABEL_PX}" y="{y}" width="{width:.1f}" height="17" fill="{colour}"/>',
        f'<line x1="{least:.1f}" y1="{middle}" x2="{most:.1f}" y2="{middle}" stroke="{_INK}"/>',
        _text(max(_LABEL_PX + width, most) + 6, y + 13, f"{record['of_limit']:.2f}"),
    ]


def _length_px(share: float) -> float:
    """HTTP or a device alone may reach several times the limit: their bars end a little behind it, the number tells."""
    return _BAR_PX * min(share, _MOST)


def _text(x: float, y: float, said: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" fill="{_INK}" text-anchor="{anchor}" font-weight="{weight}">{escape(said)}</text>'
    )
