"""Tests of the program `darkroom`: its help, and how soon it answers."""

import subprocess
import sys
import tomllib

import pytest

import commands.main
from harness.repository import ROOT
from tests.support.typed import PROGRAM, typed

COMMANDS = ["serve", "top", "check", "predict"]


def test_the_program_is_installed_by_its_name() -> None:
    """The entry point that `pip install` creates is the app that these tests run."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"darkroom": "commands.main:app"}
    assert callable(commands.main.app)


def test_help_names_every_command() -> None:
    """The help names every command. `darkroom` without a command prints it too, with an error status."""
    for arguments, status in ((["--help"], 0), (["-h"], 0), ([], 2)):
        said = typed(*arguments)
        assert said.exit_code == status
        assert all(command in said.output for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_its_help(command: str) -> None:
    said = typed(command, "--help")
    assert said.exit_code == 0
    assert f"Usage: darkroom {command}" in said.output


def test_help_loads_nothing_that_takes_long() -> None:
    """The help imports neither torch nor Ray, nor any library for images or HTTP."""
    program = (
        "import sys, commands.main\n"
        "try: commands.main.app(['predict', '--help'])\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert "typer" in loaded
    assert not loaded & {"torch", "ray", "PIL", "numpy", "httpx"}


def test_version_is_that_of_the_package() -> None:
    done = subprocess.run([*PROGRAM, "--version"], cwd=ROOT, capture_output=True, text=True, check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert done.stdout == f"darkroom {project['version']}\n"


def test_a_wrong_option_is_named() -> None:
    """An unknown option is named, with exit status 2 as in other programs."""
    said = typed("check", "--strict")
    assert said.exit_code == 2
    assert "--strict" in said.stderr
