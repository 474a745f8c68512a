"""`darkroom top`: watches the figures of a service."""

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from commands.ending import EXIT_REFUSED, EXIT_UNUSABLE, fail

if TYPE_CHECKING:
    from rich.console import RenderableType

    from commands.replicas import Replicas


def top(
    url: Annotated[str, typer.Argument(help="Of the service.")] = "http://127.0.0.1:8000",
    seconds: Annotated[int, typer.Option(min=1, max=60, help="Seconds before now that the figures cover.")] = 10,
    key: Annotated[
        str | None, typer.Option(envvar="DARKROOM_API_KEY", help="API key of the service, if it has keys.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print the figures once, and end.")] = False,
) -> None:
    """Watch a service: its rates, the time of each stage, the load of its parts, and its bottleneck.

    Runs until Ctrl-C. Shows the replicas that have answered recently. Without a terminal, prints one view after the
    other.
    """
    from rich.live import Live

    from commands.replicas import NoAnswer, NotAnAddress, Replicas
    from commands.terminal import Terminal

    try:
        replicas, console = Replicas(url, seconds, key), Terminal(highlight=False)
    except NotAnAddress as error:
        fail(str(error), EXIT_UNUSABLE)
    try:
        shown = _view(url, replicas)
        if once or not console.is_terminal:
            console.print(shown)
        if once:
            return
        with (
            Live(shown, console=console, screen=True, auto_refresh=False)
            if console.is_terminal
            else nullcontext() as live
        ):
            while True:
                time.sleep(1.0)
                shown = _view_or_why_not(url, replicas)
                if live:
                    live.update(shown, refresh=True)
                else:
                    console.print(shown)
    except NoAnswer as error:
        fail(str(error), EXIT_REFUSED)
    except KeyboardInterrupt:
        return
    finally:
        replicas.close()


def _view(url: str, replicas: "Replicas") -> "RenderableType":
    from commands.replicas import NoAnswer
    from commands.view import view

    stats = replicas.read()
    try:
        return view(url, stats)
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:  # figures of another version, or of another program
        raise NoAnswer(f"{url}/stats answers with figures that this version of Darkroom does not know") from error


def _view_or_why_not(url: str, replicas: "Replicas") -> "RenderableType":
    """Render the view, or the reason why the service does not answer: it may come back."""
    from rich.text import Text

    from commands.replicas import NoAnswer

    try:
        return _view(url, replicas)
    except NoAnswer as error:
        return Text(str(error), style="bold red")
