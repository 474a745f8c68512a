"""The program `darkroom`. Commands import what they need when they run, so that --help is fast."""

from typing import Annotated

import typer

from commands.check import check
from commands.guarded import Guarded
from commands.predict import predict
from commands.serve import serve
from commands.top import top
from commands.tune import tune
from deployments.version import version_of

app = typer.Typer(
    name="darkroom",
    cls=Guarded,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # they would print the values of variables
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"darkroom {version_of('darkroom')}")
        raise typer.Exit


@app.callback()
def darkroom(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    _debug: Annotated[
        bool, typer.Option("--debug", help="Show Python's traceback of an error that ends a command.")
    ] = False,
) -> None:
    """Batched image inference: label photographs over HTTP or from a disk."""


for command in (serve, top, check, predict, tune):
    app.command()(command)

if __name__ == "__main__":
    app(prog_name="darkroom")
