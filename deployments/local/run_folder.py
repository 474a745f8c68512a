"""The folder of a run: Ray's files and sockets and the output of the run, open to this user alone.

Ray's default is /tmp/ray, whose folders it opens to everybody (mode 0777): another user of the machine could put links
where the service is about to write. `Popen(umask=...)` in serve_run.py closes the files created inside.
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

COMPILED_VARIABLE: Final = "TORCHINDUCTOR_CACHE_DIR"
"""Variable with the folder in which torch keeps what it compiles; other users can foresee the name of its own one."""

KEPT_RUNS: Final = 5
"""Number of folders of ended runs that are kept for their logs, the newest ones."""

_FOLDER_PREFIX: Final = "darkroom-"
_MARK_FILE: Final = "run"

_SOCKET_PATH_BYTES: Final = 107
_RAY_ADDS_BYTES: Final = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/dash_MetricsHead")
_PARENT_BYTES: Final = _SOCKET_PATH_BYTES - _RAY_ADDS_BYTES - len(f"/{_FOLDER_PREFIX}abcdefgh")


@dataclass(frozen=True)
class RunFolder:
    """Folder of a run, with an unpredictable name and mode 0700."""

    path: Path

    @property
    def printed(self) -> Path:
        """File with the output of Ray and the service."""
        return self.path / "printed.log"

    @property
    def logs(self) -> Path:
        """Folder with Ray's log files; replicas have theirs in its subfolder `serve`."""
        return self.path / "ray" / "session_latest" / "logs"

    @property
    def compiled(self) -> Path:
        """Folder with what torch has compiled, so that a replica that starts again finds it."""
        return self.path / "compiled"

    def close_to_others(self) -> None:
        """Remove the rights of others that Ray has set on inner folders, in case the outer one is ever opened."""
        for folder, _, _ in os.walk(self.path):
            with contextlib.suppress(OSError):
                os.chmod(folder, 0o700)

    def discard_all_but_logs(self) -> None:
        """Remove everything but the logs after the end of a run: sockets, ports, settings."""
        sessions = [path for path in (self.path / "ray").glob("session_*") if not path.is_symlink()]
        for path in (self.path / "ray").glob("*"):
            if path not in sessions and path.name != "session_latest":
                _remove(path)
        for session in sessions:
            for path in session.iterdir():
                if path.name != "logs":
                    _remove(path)
        _remove(self.path / "auth_token")
        _remove(self.compiled)


def create_run_folder(run: str, environment: Mapping[str, str]) -> RunFolder:
    """Create the folder of a run in RAY_TMPDIR or /tmp; remove the folders of old runs beyond `KEPT_RUNS`.

    TMPDIR is not used: its path is often long, and the path of a socket may have 107 bytes.

    Args:
        run: name of the run.
        environment: environment variables of the run.

    Raises:
        StartError: the folder cannot be created, or its path would be too long.
    """
    parent = environment.get(PARENT_VARIABLE) or "/tmp"  # noqa: S108  mkdtemp makes an unpredictable name
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
    # In another container the pid in a run's name means another process.
    return f"{run} {os.readlink('/proc/self/ns/pid')}"


def _ended(parent: Path) -> list[Path]:
    """List the folders of this user's ended runs in a parent folder, the newest first."""
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
