"""The servers that are compared: commands, request forms, and the roles of their processes."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from benchmarks.servers import Role, ServerKind
from harness.local_service import shipped_config
from harness.repository import PEERS, ROOT
from harness.roles import REPLICA, WORKER, role_of
from harness.target import form_body, image_body


def _is_spawned(process: psutil.Process) -> bool:
    return "multiprocessing.spawn" in " ".join(process.cmdline())


def _litserve_plays(process: psutil.Process, role: Role) -> bool:  # noqa: ARG001  one process decodes and infers
    return _is_spawned(process)


def _mosec_plays(process: psutil.Process, role: Role) -> bool:
    if not _is_spawned(process):
        return False
    return process.environ().get("STAGE") == {"decoder": "preprocess", "model": "inference"}[role]


def _darkroom_plays(process: psutil.Process, role: Role) -> bool:
    return role_of(process) == {"decoder": WORKER, "model": REPLICA}[role]


Document = dict[str, Any]


def _darkroom_command(port: int, folder: Path, change: Callable[[Document], None] = lambda _: None) -> list[str]:
    document, config = shipped_config(), folder / "serve_config.yaml"
    document["http_options"]["port"] = port
    change(document["applications"][0])
    config.write_text(yaml.safe_dump(document))
    return [sys.executable, "-m", "deployments.local.launcher", str(config)]


def darkroom(name: str, change: Callable[[Document], None]) -> ServerKind:
    """Make a variant of Darkroom: another name, and a changed configuration of its application."""
    return replace(DARKROOM, name=name, command=lambda port, folder: _darkroom_command(port, folder, change))


def _peer(name: str, *arguments: str) -> list[str]:
    return [str(PEERS / name / "bin" / "python"), str(ROOT / "benchmarks" / "peers" / f"{name}_app.py"), *arguments]


_RAY_ENVIRONMENT: Final = {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""Environment variables of Ray: without them its workers run at nice 15, at a lower priority than the clients."""

_PACKAGE_ENVIRONMENT: Final = {"PYTHONPATH": str(ROOT)}
"""Environment variables of a peer that is run by its path and imports modules of this repository."""


def _in_our_environment(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "benchmarks" / "peers" / f"{name}_app.py"), *arguments]


def _is_ray_replica(process: psutil.Process, role: Role) -> bool:  # noqa: ARG001  one process decodes and infers
    return role_of(process) == REPLICA


def _is_bentoml_worker(process: psutil.Process, role: Role) -> bool:  # noqa: ARG001  one process decodes and infers
    return "_bentoml_impl.worker" in " ".join(process.cmdline())


LITSERVE: Final = ServerKind(
    name="LitServe",
    path="/predict",
    wrap=lambda image: form_body([image]),
    command=lambda port, _: _peer("litserve", str(port)),
    plays=_litserve_plays,
    environment=_PACKAGE_ENVIRONMENT,
)
MOSEC: Final = ServerKind(
    name="mosec",
    path="/inference",
    wrap=image_body,
    command=lambda port, _: _peer("mosec", "--address", "127.0.0.1", "--port", str(port)),
    plays=_mosec_plays,
    environment=_PACKAGE_ENVIRONMENT,
)
BENTOML: Final = ServerKind(
    name="BentoML",
    path="/classify",
    wrap=lambda image: form_body([image], "images"),
    command=lambda port, _: [
        str(PEERS / "bentoml" / "bin" / "bentoml"),
        *("serve", "benchmarks.peers.bentoml_app:BentoMLClassifier", "--host", "127.0.0.1", "--port", str(port)),
    ],
    plays=_is_bentoml_worker,
    environment={**_PACKAGE_ENVIRONMENT, "BENTOML_DO_NOT_TRACK": "True"},
)
DARKROOM: Final = ServerKind(
    name="Darkroom",
    path="/predict",
    wrap=image_body,
    command=_darkroom_command,
    plays=_darkroom_plays,
    many=form_body,
)


def alone(application: Document) -> None:
    """Replace Darkroom in an application of Serve by `benchmarks.echo`."""
    application.update(import_path="benchmarks.echo:build_app", args={}, deployments=[])


ECHO: Final = darkroom("HTTP alone", alone)
RAY_SERVE: Final = ServerKind(
    name="Ray Serve, batching",
    path="/",
    wrap=image_body,
    command=lambda port, _: _in_our_environment("ray_serve", str(port)),
    plays=_is_ray_replica,
    environment={**_PACKAGE_ENVIRONMENT, **_RAY_ENVIRONMENT},
)
LOADER_A_BATCH: Final = replace(
    RAY_SERVE,
    name="Ray Serve, a DataLoader a batch",
    command=lambda port, _: _in_our_environment("ray_serve", str(port), "loader"),
)


def _with_short_queue(application: Document) -> None:
    application["deployments"][0]["user_config"]["max_queue_wait_s"] = 0.25


DARKROOM_WITH_SHORT_QUEUE: Final = darkroom("Darkroom", _with_short_queue)
"""Darkroom with a short `max_queue_wait_s`, so that seconds of overload show refusals; the shipped value is 10 s."""

KINDS: Final = (LITSERVE, MOSEC, DARKROOM_WITH_SHORT_QUEUE)
