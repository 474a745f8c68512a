"""The program `darkroom`, run as a user types it, in this process or in its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from commands.main import app
from harness.repository import ROOT

PROGRAM = [sys.executable, "-m", "commands.main"]


def typed(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    """Run the program in this process and keep its output; neither of its streams is a terminal."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def started(*arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start the program as a process; both its streams are pipes, unless `options` say otherwise."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # imports this checkout from every folder
    return subprocess.Popen([*PROGRAM, *map(str, arguments)], env=environment, **options)
