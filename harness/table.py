"""Tables of results, for a terminal or in Markdown."""

import textwrap
from collections.abc import Sequence
from typing import Final

NOTHING: Final = "-"
"""Cell of a value that was not measured."""

_CELL_WIDTH: Final = 28


def text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table for a terminal, with wrapped cells."""
    lines = []
    for row in (header, *rows):
        cells = [textwrap.wrap(cell, _CELL_WIDTH) or [""] for cell in row]
        height = max(map(len, cells))
        padded = [cell + [""] * (height - len(cell)) for cell in cells]
        lines += ["  ".join(part.ljust(_CELL_WIDTH) for part in line).rstrip() for line in zip(*padded, strict=True)]
        lines.append("")
    return "\n".join(lines)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
