"""Rich's console with the usual behaviour on a closed pipe."""

from rich.console import Console


class Terminal(Console):
    """Console that raises BrokenPipeError to `guarded.py` when its reader has gone; Rich's own exits with 1."""

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError; Rich calls this while it handles one."""
        self.quiet = True
        raise BrokenPipeError
