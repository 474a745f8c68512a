"""Reads serve.env: environment variables for every process of a run."""

import re
from pathlib import Path

from deployments.checks.start_error import StartError


def read_env(path: Path) -> dict[str, str]:
    """Return the NAME=value lines of a file; an empty dict if the file is missing.

    The file is no shell script: a value is all text behind the first equals sign. A value that a shell would read
    differently is refused. The message does not repeat the value, which may be a key.

    Raises:
        StartError: the file cannot be read, or a line is neither blank, nor a comment, nor NAME=value.
    """
    settings, lines = dict[str, str](), dict[str, int]()
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        name, value = name.strip(), value.strip()
        if says := _env_fault(name, equals, value):
            raise StartError(f"{path}, line {number}: {says}")
        if name in lines:
            raise StartError(f"{path}, line {number}: {name} stands in line {lines[name]} already; keep one of them")
        settings[name], lines[name] = value, number
    return settings


def _lines(path: Path) -> list[str]:
    try:
        if not path.exists():
            return []
        if not path.is_file():  # reading a pipe would wait for ever
            raise StartError(f"{path} is no regular file; write NAME=value lines into one")
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except OSError as error:
        raise StartError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise StartError(f"{path}, line {line}: it holds a byte that is no UTF-8; save the file as UTF-8") from error


def _env_fault(name: str, equals: str, value: str) -> str | None:
    """Describe the fault in a line of serve.env without repeating its value; None if the line is valid."""
    if name.startswith("export "):
        return f"write {_named(name.removeprefix('export '))}=value without export, as no shell reads this file"
    if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        return "it is not NAME=value, with a name of letters, digits and _"
    if value[:1] in ("'", '"'):
        return f"the quotes would be part of {name}; write its value without them"
    if re.search(r"\s#", value):
        return f"what follows # would be part of {name}; write the comment in a line of its own"
    if not value.isprintable():
        return f"there is a control character in the value of {name}; write it without"
    return None


def _named(name: str) -> str:
    return name.strip() if name.strip().isidentifier() else "NAME"
