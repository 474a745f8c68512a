"""Tests of Ray's token: where it is kept, and who may read it."""

import os
import pwd
import stat
from pathlib import Path

import pytest

from deployments.local.ray_token import home_folder, provide_token, read_token

TOKEN_MODE = {"RAY_AUTH_MODE": "token"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return an empty home folder."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_token_is_written_where_ray_looks_for_it(home: Path, tmp_path: Path) -> None:
    """The token is written once where Ray looks for it, so `serve deploy` in another terminal uses the same."""
    environment = {**TOKEN_MODE, "HOME": str(home)}
    assert provide_token(environment, tmp_path) == {}
    token = read_token(environment)
    assert len(token) == 64
    assert stat.S_IMODE((home / ".ray" / "auth_token").stat().st_mode) == 0o600
    assert provide_token(environment, tmp_path) == {}
    assert read_token(environment) == token


def test_a_token_that_others_can_read_is_closed(home: Path, tmp_path: Path) -> None:
    """A token that other users can read is made private; Ray itself writes it that open."""
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("a" * 64)
    path.chmod(0o644)
    provide_token({**TOKEN_MODE, "HOME": str(home)}, tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "a" * 64


@pytest.mark.parametrize("kind", ["no folder", "empty token"])
def test_a_home_that_cannot_hold_a_token_is_done_without(kind: str, home: Path, tmp_path: Path) -> None:
    if kind == "no folder":
        (home / ".ray").write_text("")
    else:
        (home / ".ray").mkdir()
        (home / ".ray" / "auth_token").write_text("")
    environment = {**TOKEN_MODE, "HOME": str(home)}
    variables = provide_token(environment, tmp_path)
    assert variables == {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "auth_token")}
    assert len(read_token({**environment, **variables})) == 64


def test_without_home_and_passwd_entry_the_runs_folder_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a home folder, as in a container with an arbitrary user id, the token is kept in the run's folder."""

    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert home_folder({}) is None
    assert read_token(TOKEN_MODE) == ""
    variables = provide_token(TOKEN_MODE, tmp_path)
    assert variables == {"HOME": str(tmp_path), "RAY_AUTH_TOKEN_PATH": str(tmp_path / "auth_token")}
    assert stat.S_IMODE((tmp_path / "auth_token").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "set_by_caller", [{"RAY_AUTH_TOKEN": "x"}, {"RAY_AUTH_TOKEN_PATH": "/x"}, {"RAY_AUTH_MODE": "disabled"}]
)
def test_what_the_caller_says_of_tokens_holds(set_by_caller: dict[str, str], home: Path, tmp_path: Path) -> None:
    assert provide_token({**TOKEN_MODE, "HOME": str(home), **set_by_caller}, tmp_path) == {}
    assert list(home.iterdir()) == []


def test_home_is_the_passwd_databases_where_the_environment_has_none() -> None:
    assert home_folder({}) == Path(pwd.getpwuid(os.geteuid()).pw_dir)
    assert home_folder({"HOME": "/elsewhere"}) == Path("/elsewhere")
