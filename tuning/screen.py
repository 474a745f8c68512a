"""The result of a run as text for a terminal."""

import textwrap
from collections.abc import Iterator
from typing import Final

from tuning.findings import Findings
from tuning.sentences import said
from tuning.trials_table import aligned, rows

_COLUMNS: Final = 100


def screen(findings: Findings) -> str:
    """Format all sentences under headings, and the table of the settings that were tried."""
    return "\n".join(_sections(findings))


def _sections(findings: Findings) -> Iterator[str]:
    for number, (heading, lines) in enumerate(said(findings)):
        yield f"{heading}\n{''.join(map(_item, lines))}"
        if not number and findings.trials:
            header, table = rows(findings.trials, findings.present, findings.bound_s)
            yield f"Settings that were tried\n{aligned(header, table)}"


def _item(sentence: str) -> str:
    return textwrap.fill(f"{sentence}.", _COLUMNS, initial_indent="- ", subsequent_indent="  ") + "\n"
