"""Tests of a run's folder: private, short enough for sockets, and removed some runs later."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.local.endpoint import StartError
from deployments.local.machine import name_run
from deployments.local.run_folder import KEPT_RUNS, PARENT_VARIABLE, RunFolder, create_run_folder
from tests.support.running_service import Service

DEAD = "4194304-1"
"""A run without a launcher: no process has so large a pid."""

LONGEST_SOCKET = "ray/session_2026-12-31_23-59-59_999999_4194304/sockets/dash_MetricsHead"


def _create(parent: Path, run: str = DEAD) -> RunFolder:
    return create_run_folder(run, {PARENT_VARIABLE: str(parent)})


@pytest.fixture
def parent() -> Iterator[Path]:
    """Return a folder with a short path; those of pytest are too long."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def test_nobody_else_may_enter(parent: Path) -> None:
    path = _create(parent).path
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "run").stat().st_mode) == 0o600
    assert _create(parent).path != path


def test_sockets_fit_into_the_longest_parent_that_is_taken(parent: Path) -> None:
    """The longest accepted parent folder leaves room for Ray's socket paths.

    One byte more is refused with the limit.
    """
    longest = parent / "xx"
    assert len(str(longest)) == 17
    longest.mkdir()
    assert len(os.fsencode(_create(longest).path / LONGEST_SOCKET)) == 107
    with pytest.raises(StartError, match=r"has 18 bytes, and Ray's sockets leave 17 .* /var/tmp"):
        _create(parent / "xxx")


@pytest.mark.parametrize("where", ["/nowhere", "/dev/null", "/proc"])
def test_a_place_where_nothing_can_be_created_is_named(where: str) -> None:
    with pytest.raises(StartError, match=f"for this run in {where}: .*; name another one by RAY_TMPDIR"):
        _create(Path(where))


def test_only_the_newest_ended_runs_keep_their_folders(parent: Path) -> None:
    """Only the newest ended runs keep their folders; folders of running services and foreign files stay."""
    ended = [_create(parent).path for _ in range(KEPT_RUNS)]
    for age_s, path in enumerate(ended):
        os.utime(path, (1e9 - age_s, 1e9 - age_s))
    living, strange = _create(parent, name_run()).path, [parent / f"darkroom-{n}" for n in range(4)]
    strange[0].mkdir(mode=0o700)
    strange[1].symlink_to(ended[0])
    strange[2].write_text("no folder")
    shutil.copytree(ended[0], strange[3])
    strange[3].chmod(0o755)
    newest = [_create(parent).path for _ in range(2)]
    # Each start counts the folders before it is a run itself, and its own folder already exists.
    assert [path.exists() for path in ended] == [True] * (KEPT_RUNS - 2) + [False] * 2
    assert all(path.exists() for path in [living, *strange, *newest])


def test_logs_are_what_stays(parent: Path) -> None:
    folder = RunFolder(parent)
    (parent / "run").write_text(DEAD)
    session = parent / "ray" / "session_1"
    (session / "sockets").mkdir(parents=True)
    (session / "logs" / "serve").mkdir(parents=True)
    (session / "logs" / "serve" / "replica.log").write_text("refused")
    (session / "port").write_text("1")
    (parent / "ray" / "session_latest").symlink_to(session)
    (parent / "ray" / "metrics.json").symlink_to(session / "port")
    (parent / "auth_token").write_text("secret")
    folder.printed.write_text("started")
    folder.discard_all_but_logs()
    left = {str(path.relative_to(parent)) for path in parent.rglob("*") if not path.is_dir()}
    assert left == {"run", "printed.log", "ray/session_1/logs/serve/replica.log"}
    assert (folder.logs / "serve" / "replica.log").read_text() == "refused"


def test_no_file_of_a_running_service_is_open_to_others(service: Service) -> None:
    """Other users can neither read nor replace any file, folder or socket of a running service."""
    environment = service.replicas()[0].environ()
    folders = [environment[PARENT_VARIABLE], environment["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"]]
    paths = [path for folder in folders for path in (Path(folder), *Path(folder).rglob("*"))]
    assert len(paths) > 50
    assert service.log_folder().is_relative_to(folders[0])
    assert stat.S_IMODE(Path(folders[0]).stat().st_mode) == 0o700  # Ray opens its inner folders to others repeatedly
    found = [path for path in paths if not path.is_symlink() and not path.is_dir()]
    assert [str(path) for path in found if path.stat().st_mode & 0o077] == []
