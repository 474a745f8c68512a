"""The table of the settings that were tried on the running service."""

from collections.abc import Sequence
from statistics import fmean

from tuning.load_check import LoadResult
from tuning.replica_settings import Settings
from tuning.sentences import milliseconds
from tuning.trials import Trial


def rows(trials: Sequence[Trial], present: Settings | None, bound_s: float) -> tuple[Sequence[str], list[list[str]]]:
    """Make header and rows: for each of the settings and each load, the means of its runs.

    Args:
        trials: of all settings.
        present: those of the configuration.
        bound_s: on 99 % of the answers.
    """
    within = f"in {milliseconds(bound_s)}"
    header = ("", "workers", "batches at a time", "images a batch", "clients", "runs", "images/s", within, "99 % in")
    two_loads = any(trial.within is not trial.full for trial in trials)
    table = []
    for settings in dict.fromkeys(trial.settings for trial in trials):
        runs = [trial for trial in trials if trial.settings == settings]
        mark = "present" if present and settings.key == present.key else ""
        what = [mark, str(settings.decode_workers), str(settings.concurrent_batches), f"up to {settings.batch}"]
        loads = [[trial.within for trial in runs], *([[trial.full for trial in runs]] if two_loads else [])]
        table += [[*what, *_figures(load)] for load in loads]
    return header, table


def _figures(load: Sequence[LoadResult]) -> list[str]:
    answered, good = fmean(seen.answered for seen in load), fmean(seen.good for seen in load)
    share = f"{good / answered:.0%}" if answered else "-"
    slowest = milliseconds(max(seen.p99_s for seen in load))
    return [str(load[0].clients), str(len(load)), f"{answered:.1f}", share, slowest]


def aligned(header: Sequence[str], table: Sequence[Sequence[str]]) -> str:
    """Format a table as text, the first column aligned left and the others right."""
    lines = [header, *table]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "".join(
        "  ".join(
            [
                "",
                line[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
            ]
        )
        + "\n"
        for line in lines
    )
