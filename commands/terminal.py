"""Rich's console, which ends a command as any other program ends when nobody reads it any more."""

from rich.console import Console


class Terminal(Console):
    """A console that tells `guarded.py` when its reader has gone; Rich's own ends with status 1."""

    def on_broken_pipe(self) -> None:
        """Called while the error is handled."""
        self.quiet = True
        raise BrokenPipeError
