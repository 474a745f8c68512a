"""Reads a YAML file, and lists values that YAML reads differently than people do.

If a key stands twice, YAML keeps the last one. It reads 010 as eight, and 1:30 as ninety.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

MAX_DOCUMENT_BYTES: Final = 4 << 20
"""Limit on the size of a configuration."""

_OCTAL_NUMBER: Final = re.compile(r"[-+]?0[0-7_]+")
_TAG_PREFIX: Final = "tag:yaml.org,2002:"


_CYCLE_MESSAGE: Final = "it contains itself through an anchor and an alias; write the value out"


class NotADocument(Exception):
    """A file cannot be read, or holds no YAML; the message names it."""


@dataclass(frozen=True, slots=True)
class ConfigFault:
    """Something wrong in a document.

    Attributes:
        path: path of the key from the top level, with dots.
        says: description of the fault, and a correction.
    """

    path: str
    says: str

    def __str__(self) -> str:
        return f"{self.path}: {self.says}" if self.path else self.says


@dataclass(frozen=True, slots=True)
class Written:
    """Content of a YAML file, and faults in its text."""

    value: Any
    faults: tuple[ConfigFault, ...]


def read_yaml(path: Path) -> Written:
    """Read a YAML file.

    Raises:
        NotADocument: the file cannot be read, or holds no YAML.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
        if len(data) > MAX_DOCUMENT_BYTES:
            raise NotADocument(f"{path} is larger than {MAX_DOCUMENT_BYTES} bytes, the limit for a configuration")
        loader = yaml.SafeLoader(data.decode("utf-8-sig"))
        node = loader.get_single_node()
        faults = tuple(_faults(node, "", (), set())) if node else ()
        if any(fault.says == _CYCLE_MESSAGE for fault in faults):
            return Written(None, faults)
        return Written(loader.construct_document(node) if node else None, faults)
    except OSError as error:
        raise NotADocument(f"cannot read {path}: {error.strerror}") from error
    except RecursionError as error:
        raise NotADocument(f"{path} is not YAML that can be read: it is nested too deeply") from error
    except (
        yaml.YAMLError,
        ValueError,
    ) as error:  # ValueError: bytes that are no UTF-8, and impossible dates
        raise NotADocument(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def _faults(node: yaml.Node, path: str, above: tuple[yaml.Node, ...], seen: set[int]) -> Iterator[ConfigFault]:
    """List the faults of a value and of all values in it; a value with aliases is listed once."""
    if any(node is other for other in above):
        yield ConfigFault(path, _CYCLE_MESSAGE)
    if id(node) in seen:
        return
    seen.add(id(node))
    inside: list[tuple[str, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        yield from _faults_of_keys(node, path)
        inside = [(_name(key), value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        inside = [(str(number), value) for number, value in enumerate(node.value)]
    elif (
        isinstance(node, yaml.ScalarNode)
        and node.style is None
        and (says := _misread(node.tag.removeprefix(_TAG_PREFIX), node.value))
    ):
        yield ConfigFault(path, says)
    for name, value in inside:
        yield from _faults(value, _joined(path, name), (*above, node), seen)


def _faults_of_keys(mapping: yaml.MappingNode, path: str) -> Iterator[ConfigFault]:
    lines = dict[tuple[str, str], int]()
    for key, _ in mapping.value:
        line, known_as = key.start_mark.line + 1, (key.tag, _name(key))
        if known_as in lines and key.tag != f"{_TAG_PREFIX}merge":
            where = f"in line {line}" if line == lines[known_as] else f"in lines {lines[known_as]} and {line}"
            yield ConfigFault(
                _joined(path, _name(key)), f"it stands twice, {where}, and the last one would count; keep one"
            )
        lines[known_as] = line


def _misread(tag: str, text: str) -> str | None:
    """Describe the fault if YAML reads a plain scalar differently than people expect, else None."""
    if tag == "int" and _OCTAL_NUMBER.fullmatch(text):
        return f"{text} is read as octal, {int(text.replace('_', ''), 8)}; write it without the 0 in front"
    if tag in ("int", "float") and ":" in text:
        return f"{text} is read as a number to the base of 60; write the number, or put a text in quotes"
    if tag == "null" and not text:
        return "there is no value; write one, or remove the key (null means no value)"
    return None


def _name(key: yaml.Node) -> str:
    return key.value if isinstance(key, yaml.ScalarNode) else "?"


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
