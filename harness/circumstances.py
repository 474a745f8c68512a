"""Circumstances of a measurement: the machine, the command, and the versions of the software."""

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
    """Collect the facts that a reader needs to interpret the figures of a command.

    Args:
        module: module that is run as a command.
        arguments: arguments of the command.
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
    """Describe the processor, the cores that this process may use, and the memory."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return {
        "cpu": ", ".join(sorted(models)) or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
    }


def _shown(argument: str) -> str:
    """Shorten an argument for a published page: an absolute path to its last part, as the rest is private."""
    return Path(argument).name if argument.startswith("/") else argument


def _commit() -> str:
    """Return version and commit; the version alone without git or without a repository."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        described = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        described = ""
    return f"{version_of('darkroom')} {described}".strip()


def _peer_version(name: str) -> str | None:
    """Return the version of a peer that is installed in its environment; None if it is not."""
    found = [path.name for path in (PEERS / name).glob(f"lib/python*/site-packages/{name}-*.dist-info")]
    return found[0].removeprefix(f"{name}-").removesuffix(".dist-info") if found else None
