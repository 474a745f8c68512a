"""`darkroom predict`: labels files on a disk, without a service."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from commands.ending import EXIT_INTERRUPTED, EXIT_UNUSABLE, fail

if TYPE_CHECKING:
    from deployments.live_config import LiveConfig
    from pipeline.config import PipelineConfig

Form = Literal["jsonl", "csv", "table"]


def predict(
    paths: Annotated[
        list[str], typer.Argument(help="Files, folders, or - for names on standard input, one a line.", metavar="PATHS")
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            help="Take the pipeline and the limits from this file; by default from serve_config.yaml, if it exists."
        ),
    ] = None,
    application: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The application whose model is used, if the configuration has several."),
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Classes of each file, best first; 5 by default.")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            help="Parameter of another head, as in threshold=0.3 or encoding=base64; may be given several times.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    form: Annotated[
        Form | None,
        typer.Option(
            "--format", help="By default csv for an --output that ends in .csv, table for a terminal, jsonl otherwise."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write to this file, not to standard output.")] = None,
    draw: Annotated[
        Path | None,
        typer.Option(
            help="Draw boxes, areas or captions into copies of the pictures, in this folder, which must be empty.",
            metavar="FOLDER",
        ),
    ] = None,
) -> None:
    """Label files on this machine, without a service.

    From folders and their subfolders it takes files with the suffix of a served format, sorted. Results come in order,
    row by row. A file without a prediction does not affect the others: its row has the reason, and the end names it.

    Status 0: all files have a prediction; 1: some have none; 2: nothing was begun; 3: Darkroom has failed; 130: Ctrl-C.
    """
    from commands.files import NothingToDo
    from commands.head_values import given_parameters
    from commands.offline import offline_settings

    try:
        with ExitStack() as stack:
            given = given_parameters(parameter or [], top_k)
            pipeline, limits = offline_settings(config, top_k, application)
            status = _predict(stack, paths, pipeline, limits, given, form or _usual_form(output), output, draw)
    except NothingToDo as error:
        fail(str(error), EXIT_UNUSABLE)
    except KeyboardInterrupt:
        fail("stopped before anything was begun", EXIT_INTERRUPTED)
    raise typer.Exit(status)


def _usual_form(output: Path | None) -> Form:
    if output:
        return "csv" if output.suffix.lower() == ".csv" else "jsonl"
    return "table" if sys.stdout.isatty() else "jsonl"


def _predict(
    stack: ExitStack,
    paths: list[str],
    pipeline: "PipelineConfig",
    limits: "LiveConfig | None",
    given: Mapping[str, str],
    form: Form,
    output: Path | None,
    draw: Path | None,
) -> int:
    """Label the files; faults of the arguments are found before torch is loaded."""
    from commands.drawing_folder import prepare_folder
    from commands.files import listed
    from commands.output import FileOutput, Output, appended, refuse_to_overwrite
    from commands.progress import Bar

    files = listed(paths, pipeline.formats, sys.stdin.buffer)
    if output:
        refuse_to_overwrite(output)
    if draw:
        prepare_folder(draw)

    above = output is None and sys.stdout.isatty()
    bar = Bar(len(files), above=above)
    destination: Output = bar
    if output:
        destination = FileOutput(stack.enter_context(appended(output)), str(output))
    elif not above:
        stdout = sys.stdout.buffer
        destination = FileOutput(getattr(stdout, "raw", stdout), "standard output")

    from pipeline.decode.forkserver import start_forkserver

    start_forkserver()  # its imports run at the same time as those of the next line
    from commands.predict_run import PredictRun

    return PredictRun(files, form, destination, bar, draw).label(pipeline, limits, given)
