"""Prints the answers to each kind of odd file: `python -m tests.odd`.

Each kind has one row: the number of files, the number with the right answer in both modes, and the outcomes of the
others. `--json FILE` saves the table, `--before FILE` prints an older one beside it, and `--faults` lists the files
with a wrong answer.
"""

import argparse
import json
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.records import Outcome
from tests.odd.corpus import corpus
from tests.odd.judge import CONFIG, TorchvisionReference, ask, fault, kind_of
from tests.odd.odd_file import ANSWERED, OddFile
from tests.odd.others import FORMATS, others

MODES = ("fast", "exact")


@dataclass(frozen=True, slots=True)
class Row:
    """Outcomes of the files of one kind."""

    kind: str
    files: int
    must: str
    right: int
    got: str


def main() -> None:
    """Run both modes, and print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--faults", action="store_true")
    arguments = parser.parse_args()
    rows, faults = _judged()
    if arguments.faults:
        _say(*faults)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    before = json.loads(arguments.before.read_text()) if arguments.before else []
    got_before = {row["kind"]: row["got"] for row in before}
    _say("| kind | files | must be | before | now |" if before else "| kind | files | must be | now |")
    _say("|---|---|---|---|---|" if before else "|---|---|---|---|")
    for row in rows:
        old = [got_before.get(row.kind, "")] if before else []
        _say(f"| {' | '.join([row.kind, str(row.files), row.must, *old, row.got])} |")


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)  # noqa: T201 - a command


def _judged() -> tuple[list[Row], list[str]]:
    """Return the rows, and a line for each wrong answer."""
    warnings.simplefilter("ignore")
    more = [*others()]
    reference = TorchvisionReference([*corpus(), *more])
    answers = {mode: _asked(corpus(), decode=mode) | _asked(more, decode=mode, formats=FORMATS) for mode in MODES}
    musts: dict[str, Counter[str]] = {}
    wrong: dict[str, Counter[str]] = {}
    faults = []
    for file in answers["fast"]:
        musts.setdefault(file.kind, Counter())[" or ".join(map(_word, file.statuses))] += 1
        wrong.setdefault(file.kind, Counter())
        said = {mode: fault(file, answers[mode][file], mode, reference) for mode in MODES}
        faults += [f"{file}, {mode}: {what}" for mode, what in said.items() if what]
        kinds = [kind_of(answers[mode][file]) for mode in MODES]
        if any(said.values()) or kinds[0] != kinds[1]:
            wrong[file.kind][_described(file, kinds, said)] += 1
    return [_row(kind, must, wrong[kind]) for kind, must in musts.items()], faults


def _asked(files: Iterable[OddFile], **settings: object) -> dict[OddFile, Outcome]:
    return ask(CONFIG.model_copy(update=settings), [*files], among=False).alone


def _row(kind: str, must: Counter[str], wrong: Counter[str]) -> Row:
    right = must.total() - wrong.total()
    got = [f"{right} right", *(f"{count} {what}" for what, count in wrong.most_common())]
    return Row(kind, must.total(), ", ".join(must), right, ", ".join(got))


def _word(status: int) -> str:
    return "answered" if status == ANSWERED else str(status)


def _described(file: OddFile, kinds: list[str], said: dict[str, str]) -> str:
    """Return the outcome in both modes, e.g. "answered wrongly", or in each mode if they differ."""
    shown = [_shown(file, kind, what) for kind, what in zip(kinds, said.values(), strict=True)]
    return shown[0] if shown[0] == shown[1] else f"{shown[0]} in fast, {shown[1]} in exact"


def _shown(file: OddFile, kind: str, what: str) -> str:
    if kind == "answered":
        return "answered wrongly" if what and ANSWERED in file.statuses else kind
    return f"{kind} in other words" if "does not say" in what else kind


if __name__ == "__main__":
    main()
