"""Tests of the free space on the file systems that a run writes to."""

import os
from pathlib import Path

import pytest

from deployments.local import disk_space as space
from deployments.local.endpoint import StartError


def test_where_there_is_room_nothing_is_said(tmp_path: Path) -> None:
    space.check_space(tmp_path)


def test_too_little_room_is_told_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too few free bytes or files stop the start before any process runs, with a message that says what to delete."""
    about = os.statvfs(tmp_path)
    free = about.f_bavail * about.f_frsize
    monkeypatch.setattr(space, "NEEDED_DISK_BYTES", free + (1 << 30))
    with pytest.raises(StartError, match=rf"^{tmp_path} has \d+ MiB free, and a run needs \d+ MiB there .*: delete"):
        space.check_space(tmp_path)
    monkeypatch.setattr(space, "NEEDED_DISK_BYTES", 0)
    monkeypatch.setattr(space, "NEEDED_DISK_FILES", 1 << 60)
    if about.f_files:
        with pytest.raises(StartError, match=rf"^{tmp_path} has room for \d+ more files, and a run needs .*: delete"):
            space.check_space(tmp_path)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"/none: No such file or directory$"):
        space.check_space(tmp_path / "none")


def test_full_shared_memory_is_told_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little shared memory is a note and no error, because Ray uses files instead; with enough there is no note."""
    assert space.shared_memory_note(tmp_path) == ""
    monkeypatch.setattr(space, "SHARED_MEMORY_BYTES", 1 << 60)
    assert "MiB free: Ray keeps its objects in files instead" in space.shared_memory_note(tmp_path)
    assert space.shared_memory_note(tmp_path / "none").startswith(f"{tmp_path}/none: No such file")
