"""Figures of measurements by matplotlib, in one style, with the same bytes in every run."""

import io
from contextlib import AbstractContextManager
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

_STYLE: Final = {"font.size": 9, "axes.titlesize": 10, "svg.fonttype": "none", "svg.hashsalt": "darkroom"}


def styled() -> AbstractContextManager[None]:
    """Apply the style of all figures within a block that draws or writes one."""
    return mpl.rc_context(_STYLE)  # type: ignore[arg-type]  # its stubs list every key


def svg(figure: Figure) -> str:
    """Write a figure as an SVG element without a background."""
    file = io.StringIO()
    with styled():
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    text = file.getvalue()
    return "\n".join(line.rstrip() for line in text[text.index("<svg") :].splitlines()) + "\n"


def png(figure: Figure) -> bytes:
    """Write a figure as a PNG."""
    file = io.BytesIO()
    with styled():
        figure.savefig(file, format="png", dpi=120)
    return file.getvalue()
