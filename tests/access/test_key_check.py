"""Tests of the key file and of the check of a key, without a service."""

import asyncio
import os
import time
from pathlib import Path

import pytest
import yaml

from deployments.http.api_keys import _warnings
from deployments.http.auth import KEYS_VARIABLE, Access
from deployments.local.endpoint import StartError
from deployments.local.launcher import launch
from deployments.request_errors import MissingKey, Unauthorized, WrongKey
from deployments.service_config import ServiceConfig
from harness.local_service import shipped_config
from tests.support.keys import KEY, NEXT, OTHER, keys_file

EDGE, SHORT = "sixteen-letters!"[:15] + "z", "fifteen-letters"


def _check(access: Access, header: str | None) -> None:
    asyncio.run(access.check(header))


def _is_let_in(access: Access, key: str) -> bool:
    try:
        _check(access, f"Bearer {key}")
    except Unauthorized:
        return False
    return True


def test_without_keys_everybody_gets_in() -> None:
    """A service without keys answers every request, whatever its Authorization header holds."""
    for header in (None, "", "Basic eDp5", "Bearer anything"):
        _check(Access(None, None), header)


def test_each_of_several_keys_gets_in(tmp_path: Path) -> None:
    """Several keys are valid at once, so a new key can be handed out before the old one is removed.

    Keys come from a file or from the environment.
    """
    file = keys_file(tmp_path, f"# ours\n\n{KEY}\n  {OTHER}  \r\n# {NEXT}\n")
    for access in (Access(str(file), None), Access(None, f"{KEY}, {OTHER}")):
        assert [_is_let_in(access, key) for key in (KEY, OTHER, NEXT)] == [True, True, False]


@pytest.mark.parametrize("header", [None, "", KEY, f"Basic {KEY}", "Bearer", "Bearer ", f"Bearer{KEY}"])
def test_a_request_that_shows_no_key_is_told_how(header: str | None) -> None:
    with pytest.raises(MissingKey, match="send the header Authorization: Bearer <key>"):
        _check(Access(None, KEY), header)


@pytest.mark.parametrize(
    "shown", [KEY[:-1], KEY + "0", KEY.upper(), f"{KEY},{OTHER}", f"{KEY} {OTHER}", "#", "\udcff", "é"]
)
def test_a_key_that_only_resembles_one_is_refused(shown: str) -> None:
    """A key is accepted only if it matches exactly; the refusal does not repeat the key."""
    with pytest.raises(WrongKey) as refused:
        _check(Access(None, f"{KEY},{OTHER}"), f"Bearer {shown}")
    assert shown == "#" or shown not in str(refused.value)


@pytest.mark.parametrize("header", [f"bearer {KEY}", f"BEARER   {KEY} "])
def test_the_scheme_is_written_as_one_likes(header: str) -> None:
    """The scheme `Bearer` is compared without regard to case, as RFC 9110 requires."""
    _check(Access(None, KEY), header)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """A changed key file is read again, whether it was written in place or replaced by a file of the same size."""
    file = keys_file(tmp_path, f"{KEY}\n")
    access = Access(str(file), None)
    file.write_text(f"{KEY}\n{OTHER}\n")
    assert [_is_let_in(access, key) for key in (KEY, OTHER)] == [True, True]
    (tmp_path / "new").write_text(f"{NEXT}\n{OTHER}\n")
    (tmp_path / "new").replace(file)
    assert [_is_let_in(access, key) for key in (KEY, OTHER, NEXT)] == [False, True, True]


@pytest.mark.parametrize("text", ["", "# nothing\n", f"{SHORT}\n", f"{KEY}\n{SHORT}\n", "two words of twenty\n", None])
def test_a_file_that_has_become_unusable_lets_nobody_in(
    tmp_path: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A key file that becomes unusable refuses every key until it is repaired.

    The log says so once, not at every request, and names no key.
    """
    file = keys_file(tmp_path, f"{KEY}\n")
    access = Access(str(file), None)
    file.unlink()
    if text is not None:
        keys_file(tmp_path, text)
    with caplog.at_level("INFO", "deployments"):
        assert not any(_is_let_in(access, key) for key in (KEY, SHORT, "", KEY))
        keys_file(tmp_path, f"{OTHER}\n")
        assert _is_let_in(access, OTHER)
    complaint, mended = caplog.messages
    assert complaint.startswith("every key is refused until this is fixed: api_keys_file: ")
    assert mended == "api_keys_file was read again; keys in force: 1"
    assert caplog.records[0].stage == "configure"  # type: ignore[attr-defined]  # by `extra`
    assert not any(key in caplog.text for key in (KEY, SHORT, OTHER))


def test_a_key_of_sixteen_characters_is_long_enough(tmp_path: Path) -> None:
    assert (len(EDGE), len(SHORT)) == (16, 15)
    _check(Access(None, EDGE), f"Bearer {EDGE}")
    _check(Access(str(keys_file(tmp_path, EDGE)), None), f"Bearer {EDGE}")


@pytest.mark.parametrize(
    ("text", "listed", "says"),
    [
        (f"{KEY}\n\n{SHORT}\n", None, r"line 3: a key of 15 characters is too easy to guess; write 16 or more"),
        (f"# x\n{KEY} {OTHER}\n", None, r"line 2: a key may hold A-Z"),
        ("# x\n", None, r"keys holds no key; write at least one"),
        (None, f"{KEY},{SHORT}", r"DARKROOM_API_KEYS, key 2: a key of 15 characters"),
        (None, "", r"DARKROOM_API_KEYS, key 1: a key of 0 characters"),
        (None, f"{KEY},", r"DARKROOM_API_KEYS, key 2: a key of 0 characters"),
        (KEY, OTHER, r"both api_keys_file and DARKROOM_API_KEYS are set"),
    ],
)
def test_unusable_keys_end_the_start_without_being_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, listed: str | None, says: str
) -> None:
    """Unusable keys stop the start before any process runs.

    A variable that is set but empty is an error, not open access.
    """
    config = shipped_config()
    if text is not None:
        config["applications"][0]["args"]["api_keys_file"] = str(keys_file(tmp_path, text))
    if listed is not None:
        monkeypatch.setenv(KEYS_VARIABLE, listed)
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(StartError, match=says) as refused:
        launch(path)
    assert not any(key in str(refused.value) for key in (KEY, OTHER, SHORT))


def test_what_is_no_regular_file_is_never_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key file must be a regular file, at the start and later.

    A pipe would block every request until it is written.
    """
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for file, kind in ((pipe, "a pipe"), (tmp_path, "a folder"), (Path("/dev/zero"), "a device")):
        with pytest.raises(ValueError, match=rf"{file} is {kind}; write the keys into a regular file"):
            Access(str(file), None)
    file = keys_file(tmp_path, f"{KEY}\n")
    access = Access(str(file), None)
    pipe.replace(file)
    assert not _is_let_in(access, KEY)
    assert "is a pipe" in caplog.text


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    file = keys_file(tmp_path, f"{KEY}\n")
    os.truncate(file, 1 << 40)
    with pytest.raises(ValueError, match="is larger than 16777216 bytes, the limit"):
        Access(str(file), None)


@pytest.mark.parametrize(
    ("mode", "owner", "says"),
    [
        (0o600, 1000, None),
        (0o400, 0, None),
        (0o440, 0, None),  # the mode with which Kubernetes mounts a secret for an fsGroup
        (0o640, 1000, "every user of its group may read"),
        (0o644, 0, "every user of the machine may read"),
        (0o604, 1000, "every user of the machine may read"),
    ],
)
def test_a_file_that_others_may_read_is_warned_of(tmp_path: Path, mode: int, owner: int, says: str | None) -> None:
    """A key file that other users may read causes a warning and no refusal. Kubernetes mounts secrets with 0644.

    For a symbolic link, the mode of its target counts.
    """
    warnings = _warnings(tmp_path / "keys", mode, owner)
    assert [says in warning for warning in warnings if says] == [True] * bool(says)
    assert bool(warnings) is bool(says)
    file = keys_file(tmp_path, f"{KEY}\n")
    file.chmod(0o604)
    link = tmp_path / "link"
    link.symlink_to(file)
    (warning,) = Access(str(link), None).warnings
    assert "(mode 0604); type chmod 600" in warning


def test_a_file_that_anybody_may_change_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key file that every user may write to is refused, at the start and while the service runs.

    Another user could add a key.
    """
    file = keys_file(tmp_path, f"{KEY}\n")
    access = Access(str(file), None)
    file.chmod(0o646)
    assert not _is_let_in(access, KEY)
    assert "every user of the machine may write to" in caplog.text
    with pytest.raises(ValueError, match="chmod 600"):
        Access(str(file), None)
    file.chmod(0o644)
    assert _is_let_in(access, KEY)
    assert "every user of the machine may read" in caplog.text


def test_many_keys_cost_a_request_no_more_than_one(tmp_path: Path) -> None:
    """A key is found by its digest. A comparison with each of 200,000 keys would take 100 ms."""
    file = keys_file(tmp_path, "\n".join(f"{KEY}{number:06}" for number in range(200_000)))
    access = Access(str(file), None)

    async def checks() -> float:
        began_at = time.thread_time()
        for _ in range(100):
            await access.check(f"Bearer {KEY}199999")
        return time.thread_time() - began_at

    assert asyncio.run(checks()) < 0.1


def test_a_request_that_goes_while_the_file_is_read_leaves_no_old_key_in_force(tmp_path: Path) -> None:
    """A request that is cancelled while the key file is read leaves no old key valid.

    The next request reads the file.
    """
    file = keys_file(tmp_path, f"{KEY}\n")
    access = Access(str(file), None)
    file.write_text(f"{OTHER}\n")

    async def gone() -> None:
        checking = asyncio.create_task(access.check(f"Bearer {KEY}"))
        await asyncio.sleep(0)
        checking.cancel()
        await asyncio.gather(checking, return_exceptions=True)

    asyncio.run(gone())
    assert [_is_let_in(access, key) for key in (KEY, OTHER)] == [False, True]


def test_a_file_that_cannot_be_read_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"api_keys_file: cannot read .*/none: No such file or directory"):
        Access(str(tmp_path / "none"), None)


def test_the_file_is_named_by_its_whole_path() -> None:
    with pytest.raises(ValueError, match=r"api_keys_file\n.*the path is relative, .*write an absolute path"):
        ServiceConfig(api_keys_file="keys.txt")
