"""Ray's token: whoever shows it may run code in the run's Ray, so only this user may read its file.

The rules: https://docs.ray.io/en/latest/ray-security/token-auth.html
"""

import os
import pwd
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_TOKEN: Final = "RAY_AUTH_TOKEN"  # noqa: S105  names of variables
_TOKEN_PATH: Final = "RAY_AUTH_TOKEN_PATH"  # noqa: S105


def home_folder(environment: Mapping[str, str]) -> Path | None:
    """Return the user's home by HOME or, without it, by the passwd database; None where neither has one."""
    if home := environment.get("HOME"):
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return None


def provide_token(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the variables by which Ray finds its token, after a token has been written where there was none.

    Ray itself needs HOME, fails where it cannot write there, and lets others read what it writes.

    Args:
        environment: of the run so far.
        folder: of the run: holds the token where the user's home cannot, and stands for a home that is missing.
    """
    home = home_folder(environment)
    variables = {} if environment.get("HOME") else {"HOME": str(home or folder)}
    if environment.get("RAY_AUTH_MODE") != "token" or environment.get(_TOKEN) or environment.get(_TOKEN_PATH):
        return variables
    if home is not None and _is_usable(home / ".ray" / "auth_token"):
        return variables
    _write(folder / "auth_token")
    return {**variables, _TOKEN_PATH: str(folder / "auth_token")}


def read_token(environment: Mapping[str, str]) -> str:
    """Return the token that Ray's processes with this environment have; an empty one where there is none."""
    if token := environment.get(_TOKEN):
        return token
    home = home_folder(environment)
    try:
        if path := environment.get(_TOKEN_PATH) or (home and home / ".ray" / "auth_token"):
            return Path(path).read_text().strip()
    except OSError:
        return ""
    return ""


def _is_usable(path: Path) -> bool:
    """Whether the file holds a token, written now if need be, that no other user can read."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _write(path)
        if path.stat().st_uid == os.geteuid():
            path.chmod(0o600)
        return bool(path.read_text().strip())
    except OSError:
        return False


def _write(path: Path) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
