"""Tests of the pace that the progress bar of `darkroom predict` shows."""

from rich.progress import Progress

from commands.progress import SPEED_SHOWN_AFTER_S, Pace


def test_a_pace_is_told_once_it_has_settled() -> None:
    """A pace is shown only after the first burst of files, which is faster than the rest."""
    now_s = 100.0
    progress = Progress(get_time=lambda: now_s, disable=True)
    task = progress.add_task("labelling", total=150)

    def told() -> str:
        return Pace().render(progress.tasks[0]).plain

    for _ in range(32):
        now_s += 0.001
        progress.advance(task)
    assert told() == ""
    for _ in range(88):
        now_s += SPEED_SHOWN_AFTER_S / 80
        progress.advance(task)
    assert told() == "53.3 images/s, 0:01 left"
    for _ in range(30):
        now_s += 0.1
        progress.advance(task)
    assert told() == "28.7 images/s, took 0:05"
