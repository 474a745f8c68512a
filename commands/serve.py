"""`darkroom serve`: the service on this machine, until Ctrl-C."""

from pathlib import Path
from typing import Annotated

import typer

from commands.ending import EXIT_REFUSED, fail


def serve(
    config: Annotated[Path, typer.Argument(help="The configuration to serve.")] = Path("serve_config.yaml"),
    new_starts: Annotated[
        int,
        typer.Option(
            min=0,
            help="How often within ten minutes the service is started anew where Ray has ended or hangs; then, or with "
            "0 at once, the command ends with a status.",
        ),
    ] = 3,
) -> None:
    """Serve on this machine until Ctrl-C.

    Reads serve.env in the working directory, checks configuration and ports before the start, says when the service
    answers, and leaves no process behind.
    """
    from deployments.local.endpoint import StartError
    from deployments.local.launcher import launch

    try:
        status = launch(config, new_starts)
    except StartError as error:
        fail(str(error), EXIT_REFUSED)
    raise typer.Exit(status)
