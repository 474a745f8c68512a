"""`darkroom check`: lists every fault of a configuration, or explains its values; builds and describes its models."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.ending import EXIT_REFUSED, fail, say

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console
    from rich.table import Table

    from deployments.checks.configuration import Configuration

_WIDTH = 150
"""Width of the tables in columns without a terminal."""


def check(
    config: Annotated[Path, typer.Argument(help="The configuration to check.")] = Path("serve_config.yaml"),
    application: Annotated[
        str | None, typer.Option(metavar="NAME", help="Build the model of this application alone.")
    ] = None,
    model: Annotated[
        bool, typer.Option(help="Build the models; --no-model checks the file alone, which takes about three seconds.")
    ] = True,
    image: Annotated[
        str | None, typer.Option(metavar="FILE", help="Show the answers to this image.", show_default=False)
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Check against a running cluster; URL of Ray's dashboard, such as http://10.0.0.1:8265.",
            show_default=False,
        ),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option(min=0.1, help="Seconds for each model; after the default, a start would give up too.")
    ] = 600.0,
) -> None:
    """Check a configuration strictly, explain its values, and build its models without serving them.

    Finds unknown keys, also among Serve's own, values of a wrong type, and values that contradict each other: one line
    each, and status 1. Without faults, shows the value and meaning of each of Darkroom's own settings. Then builds each
    model as a start does, sends test images through the whole path, and shows shapes, number format, parameters, head
    and transform. Starts no Ray, and opens no connection: weights have to be on this machine.

    With --cluster, asks a cluster for its nodes, and says which of the minimum replicas have no room, and whether ports
    of nodes with replicas are closed to this machine: that of clients, and the first ones of replicas. Run it on each
    node, as a firewall may close one direction.

    Status 0: all is sound; 1: a fault; 2: the arguments cannot be used; 130: Ctrl-C.
    """
    configuration = _sound(config)
    console = _console()
    _explain(console, configuration.document)
    if cluster:
        from commands.check_cluster import check_cluster

        _refuse(config, check_cluster(console, configuration.document, cluster))
    if model:
        from commands.check_models import check_models

        _refuse(config, check_models(console, configuration.document, application, image, timeout_s))
    console.print(f"{config} is sound.", highlight=False, markup=False, soft_wrap=True)


def _sound(config: Path) -> "Configuration":
    """Read a configuration; end the command, with a line for each fault, if it has any."""
    from deployments.checks.configuration import read_configuration
    from deployments.checks.start_error import StartError
    from deployments.local.env_file import read_env

    try:
        configuration = read_configuration(config)
        environment = read_env(Path("serve.env")) | os.environ
        from deployments.checks.serve_faults import all_faults  # takes two seconds, as it imports Serve

        faults = configuration.faults(environment, all_faults)
    except StartError as error:
        fail(str(error), EXIT_REFUSED)
    _refuse(config, faults)
    return configuration


def _refuse(config: Path, faults: Sequence[str]) -> None:
    """End the command, with a line for each fault, if there is any."""
    for fault in faults:
        say(f"{config}: {fault}")
    if faults:
        raise typer.Exit(EXIT_REFUSED)


def _explain(console: "Console", document: Mapping[str, Any]) -> None:
    from deployments.checks.own_faults import IMPORT_PATH, own_applications

    for table in _tables(document):
        console.print(table)
    if not any(own_applications(document)):
        console.print(f"Serve's part was checked: no application has import_path: {IMPORT_PATH}", style="dim")
    console.print("-  not set: the machine, the weights or the cluster decide", style="dim")


def _tables(document: Mapping[str, Any]) -> Iterator["Table"]:
    from deployments.checks.own_faults import own_applications, own_deployments, written_or_empty
    from deployments.live_config import LiveConfig
    from deployments.service_config import ServiceConfig

    for path, application in own_applications(document):
        args = ServiceConfig.model_validate(written_or_empty(application, "args"))
        yield _table(f"{path}.args: fixed for the life of a replica", args)
        yield _table(f"{path}.args.pipeline: likewise", args.pipeline)
        live = {f"{path}.{inner}": deployment.get("user_config") for inner, deployment in own_deployments(application)}
        for inner, user_config in (live or {path: None}).items():
            title = f"{inner}.user_config: changes while the service runs"
            yield _table(title, LiveConfig.model_validate(user_config or {}))


def _console() -> "Console":
    from commands.terminal import Terminal

    console = Terminal(highlight=False)
    return console if console.is_terminal else Terminal(highlight=False, width=_WIDTH)


def _table(title: str, model: "BaseModel") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from commands.settings import explained, written

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("key", "value", "unit", "default", "meaning"):
        table.add_column(column, overflow="fold", no_wrap=column in ("key", "unit"))
    for setting in explained(model):
        default = "same" if setting.is_default else written(setting.default)
        style = "" if setting.is_default else "bold"
        row = (setting.key, written(setting.value), setting.unit, default, setting.meaning)
        table.add_row(*(Text(cell) for cell in row), style=style)
    return table
