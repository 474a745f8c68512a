"""Reads a serve_config.yaml and lists its faults: the same for `darkroom check` and for a start."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deployments.checks.own_faults import own_applications, own_faults
from deployments.checks.start_error import StartError
from deployments.checks.yaml_document import ConfigFault, NotADocument, read_yaml

_KEYS_OF_OTHERS: Final = re.compile(r"applications\.\d+\.(args|runtime_env|deployments\.\d+\.user_config)\.")
"""Keys for applications other than Darkroom, which may hold anything."""

FindFaults = Callable[[Mapping[str, Any], Mapping[str, str]], list[str]]


@dataclass(frozen=True, slots=True)
class Configuration:
    """Configuration file for Serve, as read.

    Attributes:
        path: of the file.
        document: content, a mapping that lists applications; nothing else has been checked.
        written: faults in the YAML text, such as a key that stands twice.
    """

    path: Path
    document: dict[str, Any]
    written: tuple[ConfigFault, ...]

    def faults(self, environment: Mapping[str, str], find: FindFaults = own_faults) -> list[str]:
        """List all faults, one line each: those in the YAML text and those in the settings.

        Args:
            environment: environment variables of the service; they may hold API keys.
            find: `own_faults`, or `all_faults` of `serve_faults.py`, which checks Serve's own settings too.
        """
        written_paths = tuple(f"{fault.path}:" for fault in self.written)
        found = find(self.document, environment)
        return [*map(str, self.written), *(fault for fault in found if not fault.startswith(written_paths))]


def read_configuration(path: Path) -> Configuration:
    """Read a configuration for Serve; check only its YAML text and that it lists applications.

    Raises:
        StartError: the file is missing, or is no configuration for Serve.
    """
    try:
        written = read_yaml(path)
    except NotADocument as error:
        raise StartError(str(error)) from error
    document = written.value
    if document is None and written.faults:
        raise StartError(f"{path}: {'; '.join(map(str, written.faults))}")
    applications = document.get("applications") if isinstance(document, dict) else None
    if not isinstance(applications, list) or not applications:
        raise StartError(f"{path} is not a configuration that `serve run` takes: it lists no applications")
    own = tuple(f"{place}." for place, _ in own_applications(document))
    faults = (fault for fault in written.faults if fault.path.startswith(own) or not _KEYS_OF_OTHERS.match(fault.path))
    return Configuration(path, dict(document), tuple(faults))


def read_document(path: Path) -> dict[str, Any]:
    """Read the content of a configuration for Serve; refuse faults in its YAML text.

    Raises:
        StartError: the file is missing, is no configuration for Serve, or YAML misreads it.
    """
    configuration = read_configuration(path)
    if configuration.written:
        raise StartError(f"{path}: {'; '.join(map(str, configuration.written))}")
    return configuration.document


def check_configuration(path: Path, environment: Mapping[str, str]) -> None:
    """Check Darkroom's own settings in the file and the environment at once; Serve would need half a minute.

    Raises:
        StartError: a setting is wrong; the message says what to write instead.
    """
    if faults := read_configuration(path).faults(environment):
        raise StartError(f"{path}: {'; '.join(faults)}")
