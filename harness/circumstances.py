"""Circumstances of a measurement: the machine, the command, and the versions of what took part."""

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

from deployments.version import version_of
from harness.repository import PEERS, ROOT

_PEERS: Final = ("bentoml", "litserve", "mosec")


def circumstances(module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Facts without which the figures of a command cannot be read.

    Args:
        module: that is run as a command.
        arguments: of that command.
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join([f"python -m {module}", *map(_shown, arguments)]),
        **machine(),
        "python": platform.python_version(),
        "darkroom": _commit(),
        **{name: version(name) for name in ("ray", "torch", "torchvision", "pillow")},
        **{name: _peer_version(name) for name in _PEERS},
    }


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, and memory."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return {
        "cpu": ", ".join(sorted(models)) or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
    }


def _shown(argument: str) -> str:
    """An argument as a page may show it: of an absolute path the last part, as the rest is of one machine alone."""
    return Path(argument).name if argument.startswith("/") else argument


def _commit() -> str:
    """Version and commit; the version alone in a copy without history, or where there is no git."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        described = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        described = ""
    return f"{version_of('darkroom')} {described}".strip()


def _peer_version(name: str) -> str | None:
    """Version of a peer that is installed in its environment."""
    found = [path.name for path in (PEERS / name).glob(f"lib/python*/site-packages/{name}-*.dist-info")]
    return found[0].removeprefix(f"{name}-").removesuffix(".dist-info") if found else None
