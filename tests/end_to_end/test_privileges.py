"""Tests of the service's privileges on its machine: it needs no root."""

import os
import tempfile
from pathlib import Path

import pytest
import torch

from harness.local_service import shipped_config
from harness.photographs import jpeg, photograph
from harness.repository import ROOT
from tests.support.running_service import running

NOBODY = 65534
# If root installed Python and the weights, other users cannot read them: only this right is granted.
AS_NOBODY = (
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    "--bounding-set=-all,+dac_read_search",
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search",
    "--no-new-privs",
)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="whoever runs this is not root, so every other test shows it")
def test_the_service_runs_without_root() -> None:
    """The whole service runs without root: an image gets its label, and no process is root's or can become so."""
    with tempfile.TemporaryDirectory(dir="/tmp") as scratch:  # pytest's own folders are closed to other users
        os.chown(scratch, NOBODY, NOBODY)
        places = {"HOME": scratch, "TORCH_HOME": str(Path(torch.hub.get_dir()).parent), "PYTHONDONTWRITEBYTECODE": "1"}
        with running(Path(scratch), shipped_config(), *AS_NOBODY, **places) as service:
            answer = service.post(jpeg(photograph("cat"))).raise_for_status().json()
            assert "cat" in answer["predictions"][0]["label"]
            processes = service.processes()
            assert len(processes) > 5
            assert {process.uids() for process in processes} == {(NOBODY, NOBODY, NOBODY)}


def _instructions(name: str) -> list[str]:
    """Return the arguments of each line of Containerfile that begins with this word."""
    lines = (ROOT / "Containerfile").read_text().splitlines()
    return [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]


def test_the_image_runs_as_a_numbered_user() -> None:
    """The container image names its user by number, so a cluster that forbids root can see that it is not root."""
    (user,) = _instructions("USER")
    assert all(int(number) > 0 for number in user.split(":"))


def test_the_image_takes_what_it_copies_and_nothing_else() -> None:
    """.dockerignore admits exactly the copied files, so no key, model or .git gets into the image by accident."""
    copied = {source for line in _instructions("COPY") for source in line.split()[:-1]}
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)
