"""How a benchmark is run as a command, and what it leaves: its figures, and what one must know to read them."""

import datetime
import json
import os
import platform
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, Final

import psutil

from benchmarks.servers import PEERS
from deployments.version import version_of
from harness.repository import ROOT

RESULTS: Final = ROOT / "benchmarks" / "results"

Facts = dict[str, Any]


def circumstances(module: str, arguments: Sequence[str]) -> Facts:
    """What else one must know to read the figures of a benchmark that is run as that module."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = {line.partition(":")[2].strip() for line in file if line.startswith("model name")}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join([f"python -m {module}", *map(_shown, arguments)]),
        "cpu": ", ".join(sorted(models)) or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "darkroom": _commit(),
        "ray": version("ray"),
        "torch": version("torch"),
        "torchvision": version("torchvision"),
        "pillow": version("pillow"),
        "litserve": _peer_version("litserve"),
        "mosec": _peer_version("mosec"),
        "bentoml": _peer_version("bentoml"),
        "k6": _peer_version("k6"),
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
    """Of what is installed in the environment of a peer."""
    found = [path.name for path in (PEERS / name).glob(f"lib/python*/site-packages/{name}-*.dist-info")]
    return found[0].removeprefix(f"{name}-").removesuffix(".dist-info") if found else None


def write(stem: Path, records: Sequence[Facts], markdown: str) -> None:
    """The results: `stem`.json with a line a record, and the table as `stem`.md."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text("".join(json.dumps(record) + "\n" for record in records))
    stem.with_suffix(".md").write_text(markdown)


def say(line: str) -> None:
    """Progress, beside the table."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def run(main: Callable[[Sequence[str]], int]) -> None:
    """Runs a command line to its end, or to Ctrl-C or SIGTERM: the servers that it has started are ended either way."""
    # Handlers of its own, also where a shell has set SIGINT to be ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _stop)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection a waiting request, at both ends
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
