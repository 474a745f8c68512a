"""`darkroom tune`: finds the settings that are best on this machine, with these images and this model."""

import os
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from commands.ending import EXIT_INTERRUPTED, EXIT_REFUSED, EXIT_UNUSABLE, fail

_EXTRA_PACKAGES: Final = {"matplotlib": "matplotlib", "ruamel": "ruamel.yaml"}
"""Packages of the extra `tune`, by import name; only this command uses them."""


def tune(
    images: Annotated[
        str,
        typer.Option(
            help="Photographs like those that clients will send: a folder, a file, or - for names from stdin."
        ),
    ],
    config: Annotated[Path, typer.Option(help="The configuration to tune.")] = Path("serve_config.yaml"),
    application: Annotated[
        str | None, typer.Option(metavar="NAME", help="The application to tune, if the configuration has several.")
    ] = None,
    p99_ms: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            max=600_000.0,
            show_default="none: the most images a second",
            help="Time within which 99 % of the answers should come.",
        ),
    ] = None,
    images_per_request: Annotated[int, typer.Option(min=1, help="Images that clients send in one request.")] = 1,
    write: Annotated[bool, typer.Option("--write", help="Write the settings into the configuration.")] = False,
    report: Annotated[
        str, typer.Option(help="Write the report to this file, and its figure beside it as a PNG.")
    ] = "darkroom-tune.html",
    seed: Annotated[int, typer.Option(help="Seed for the sample of images and the random times of requests.")] = 0,
) -> None:
    """Find the best settings for this machine, these images and this model.

    Measures decoding by number of workers, and the model by batch size; predicts the best settings; starts the service
    on its port and compares these settings with the present ones. Recommends them only if they were better by more than
    chance. Shows the changes to the configuration and writes a report; changes nothing without --write.

    No other program should be busy on the machine meanwhile. A run takes one to two minutes.

    Status 0: settings are recommended; 1: none are, as when a bound cannot be met, or configuration, port or report
    have a fault; 2: there are no images; 3: Darkroom has failed; 130: Ctrl-C.
    """
    from commands.files import NothingToDo
    from deployments.local.endpoint import StartError

    signal.signal(signal.SIGTERM, _interrupt)
    if missing := [package for name, package in _EXTRA_PACKAGES.items() if find_spec(name) is None]:
        fail(f"darkroom tune needs {' and '.join(missing)}: pip install 'darkroom[tune]'", EXIT_REFUSED)
    try:
        from commands.report_path import report_path

        path = report_path(report)
        document = _sound(config, application)
        from commands.tune_run import TuningRequest, run_tuning

        bound_s = None if p99_ms is None else p99_ms / 1000
        wanted = TuningRequest(config, images, bound_s, images_per_request, path, seed, write, application)
        status = run_tuning(wanted, document)
    except NothingToDo as error:
        fail(str(error), EXIT_UNUSABLE)
    except StartError as error:
        fail(str(error), EXIT_REFUSED)
    except KeyboardInterrupt:
        fail("stopped before anything was measured", EXIT_INTERRUPTED)
    raise typer.Exit(status)


def _interrupt(number: int, _: object) -> None:
    raise KeyboardInterrupt(number)


def _sound(config: Path, application: str | None) -> dict[str, Any]:
    """Read a configuration and check that it is sound and that its ports are free.

    Raises:
        StartError: the configuration has faults, the application is not clear, or a port is taken.
    """
    from deployments.checks.chosen_application import NotChosen, chosen_application
    from deployments.local.endpoint import StartError, needed_ports, read_document, read_endpoint, read_env
    from deployments.local.machine import obstacles
    from pipeline.decode.forkserver import start_forkserver

    environment = read_env(Path("serve.env")) | os.environ
    document = read_document(config)
    start_forkserver()  # its imports run at the same time as those of the next lines
    from deployments.checks.serve_faults import all_faults

    if faults := all_faults(document, environment):
        raise StartError(f"{config}: {'; '.join(faults)}")
    try:
        chosen_application(document, application)
    except NotChosen as error:
        raise StartError(f"{config}: {error}") from error
    if found := obstacles(needed_ports(read_endpoint(config), environment)):
        raise StartError(f"nothing was measured, since the service cannot be started here.\n{found}")
    return document
