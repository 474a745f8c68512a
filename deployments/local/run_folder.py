"""The folder of a run: Ray's files and sockets and what the run prints, open to this user alone.

Ray's own choice is /tmp/ray, whose folders it opens to everybody (mode 0777): another user of the machine could put
links where the service is about to write. `Popen(umask=...)` in launcher.py closes what is created inside.
"""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deployments.local.endpoint import StartError
from deployments.local.machine import launcher_of

PARENT_VARIABLE: Final = "RAY_TMPDIR"

KEPT_RUNS: Final = 5
"""Folders of ended runs that stay, for the sake of their logs; the newest ones."""

_FOLDER_PREFIX: Final = "darkroom-"
_MARK_FILE: Final = "run"

_SOCKET_PATH_BYTES: Final = 107
_RAY_ADDS_BYTES: Final = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/dash_MetricsHead")
_PARENT_BYTES: Final = _SOCKET_PATH_BYTES - _RAY_ADDS_BYTES - len(f"/{_FOLDER_PREFIX}abcdefgh")


@dataclass(frozen=True)
class RunFolder:
    """A folder with a name that nobody can foresee, mode 0700."""

    path: Path

    @property
    def printed(self) -> Path:
        """The file that holds what Ray and the service print."""
        return self.path / "printed.log"

    @property
    def logs(self) -> Path:
        """The folder with Ray's log files; those of replicas are in `serve` below it."""
        return self.path / "ray" / "session_latest" / "logs"

    def close_to_others(self) -> None:
        """Take from all others what Ray has given them inside, should the folder itself ever be opened."""
        for folder, _, _ in os.walk(self.path):
            with contextlib.suppress(OSError):
                os.chmod(folder, 0o700)

    def discard_all_but_logs(self) -> None:
        """Remove what is of no use once the run has ended: sockets, ports, settings."""
        sessions = [path for path in (self.path / "ray").glob("session_*") if not path.is_symlink()]
        for path in (self.path / "ray").glob("*"):
            if path not in sessions and path.name != "session_latest":
                _remove(path)
        for session in sessions:
            for path in session.iterdir():
                if path.name != "logs":
                    _remove(path)
        _remove(self.path / "auth_token")


def create_run_folder(run: str, environment: Mapping[str, str]) -> RunFolder:
    """Create the folder of a run, in /tmp or where RAY_TMPDIR says, and remove those of runs that ended long ago.

    TMPDIR does not count: it is often a long path, and the path of a socket may have 107 bytes.

    Args:
        run: its name.
        environment: of the run.

    Raises:
        StartError: no folder can be created there, or its path would be too long.
    """
    parent = environment.get(PARENT_VARIABLE) or "/tmp"  # noqa: S108  mkdtemp's name cannot be foreseen
    if (size := len(os.fsencode(os.path.abspath(parent)))) > _PARENT_BYTES:
        raise StartError(
            f"{PARENT_VARIABLE}={parent} has {size} bytes, and Ray's sockets leave {_PARENT_BYTES} to it: name a "
            "shorter path, such as /var/tmp"
        )
    try:
        folder = RunFolder(Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=os.path.abspath(parent))))
        mark = folder.path / _MARK_FILE
        mark.touch(mode=0o600)
        mark.write_text(_mark(run))
    except OSError as error:
        raise StartError(
            f"cannot create a folder for this run in {parent}: {error.strerror}; name another one by {PARENT_VARIABLE}"
        ) from error
    for old in _ended(folder.path.parent)[KEPT_RUNS:]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _mark(run: str) -> str:
    # In another container the pid in a run's name counts from another start.
    return f"{run} {os.readlink('/proc/self/ns/pid')}"


def _ended(parent: Path) -> list[Path]:
    """The folders there of this user's runs that have ended, the newest first."""
    found = []
    for path in parent.glob(f"{_FOLDER_PREFIX}*"):
        try:
            about = path.lstat()
            run = (path / _MARK_FILE).read_text().partition(" ")[0] if _is_own(about) else ""
            if run and (path / _MARK_FILE).read_text() == _mark(run) and launcher_of(run) is None:
                found.append((about.st_mtime, path))
        except (OSError, UnicodeDecodeError):  # no folder of a run
            continue
    return [path for _, path in sorted(found, reverse=True)]


def _is_own(about: os.stat_result) -> bool:
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o077


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
