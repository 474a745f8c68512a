"""Ray's token: it allows running code in the run's Ray, so only this user may read its file.

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
    """Return the user's home folder from HOME or the passwd database; None if neither names one."""
    if home := environment.get("HOME"):
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return None


def provide_token(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Write a token if there is none; return the environment variables by which Ray finds the token.

    Ray itself needs HOME, fails if it cannot write there, and lets other users read the token that it writes.

    Args:
        environment: environment variables of the run so far.
        folder: folder of the run: holds the token if the user's home cannot, and replaces a missing home.
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
    """Return the token that Ray's processes use with this environment; empty if there is none."""
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
    """Return whether the file holds a token that only this user can read; write a missing token."""
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
