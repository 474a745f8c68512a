"""`darkroom tune`: finds the settings that are best on this machine, with these images and this model."""

import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.ending import INTERRUPTED, REFUSED, UNUSABLE, fail


def tune(
    images: Annotated[Path, typer.Option(help="A folder with photographs like those that clients will send.")],
    config: Annotated[Path, typer.Option(help="The configuration to tune.")] = Path("serve_config.yaml"),
    p99_ms: Annotated[float, typer.Option(min=1.0, help="99 % of the answers should take no longer.")] = 100.0,
    write: Annotated[bool, typer.Option("--write", help="Write the settings into the configuration.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Measure less, and no neighbouring settings.")] = False,
    report: Annotated[Path, typer.Option(help="Write the report here; its picture beside it, as a PNG.")] = Path(
        "darkroom-tune.html"
    ),
    seed: Annotated[int, typer.Option(help="Of the choice of images, and of when requests come.")] = 0,
) -> None:
    """Find the best settings for this machine, these images and this model.

    Measures what decoding costs with more and more workers, and the model with larger and larger batches; foresees
    from that what would be best; starts the service on its port to see whether it is, beside neighbouring settings too.
    Shows what it would change in the configuration, leaves a report, and changes nothing without --write.

    Nothing else should compute on the machine meanwhile. Some minutes; with --quick less than one.

    Status 0: there are settings; 1: there are none, or configuration or port forbid it; 2: there are no images; 3:
    Darkroom has failed; 130: Ctrl-C.
    """
    from commands.files import NothingToDo
    from deployments.endpoint import StartError

    signal.signal(signal.SIGTERM, _interrupt)
    try:
        document = _sound(config)
        from commands.tuned import Wanted, tuned

        wanted = Wanted(config, images, p99_ms / 1000, report, seed, write=write, quick=quick)
        status = tuned(wanted, document)
    except NothingToDo as error:
        fail(str(error), UNUSABLE)
    except StartError as error:
        fail(str(error), REFUSED)
    except KeyboardInterrupt:
        fail("stopped before anything was measured", INTERRUPTED)
    raise typer.Exit(status)


def _interrupt(number: int, _: object) -> None:
    raise KeyboardInterrupt(number)


def _sound(config: Path) -> dict[str, Any]:
    """The configuration, where nothing is wrong with it and its ports are free.

    Raises:
        StartError: what is wrong, or in the way.
    """
    from deployments.endpoint import StartError, needed_ports, read_document, read_endpoint, read_env
    from deployments.faults import own_applications
    from deployments.machine import obstacles
    from pipeline.forkserver import start_forkserver

    environment = read_env(Path("serve.env")) | os.environ
    document = read_document(config)
    start_forkserver()  # its imports take as long as those of the next line, and of what follows
    from deployments.strict import all_faults

    if faults := all_faults(document, environment):
        raise StartError(f"{config}: {'; '.join(faults)}")
    if not any(own_applications(document)):
        raise StartError(f"{config}: no application has import_path: deployments.app:build_app")
    if found := obstacles(needed_ports(read_endpoint(config), environment)):
        raise StartError(f"nothing was measured, for a service of its own could not be started.\n{found}")
    return document
