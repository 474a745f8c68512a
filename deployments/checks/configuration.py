"""A serve_config.yaml that was read, and all that is wrong with it: the same at `darkroom check` and at a start."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deployments.checks.own_faults import own_applications, own_faults
from deployments.checks.start_error import StartError
from deployments.checks.yaml_document import ConfigFault, NotADocument, read_yaml

_KEYS_OF_OTHERS: Final = re.compile(r"applications\.\d+\.(args|runtime_env|deployments\.\d+\.user_config)\.")
"""Keys that other applications than Darkroom read, and may write as they like."""

FindFaults = Callable[[Mapping[str, Any], Mapping[str, str]], list[str]]


@dataclass(frozen=True, slots=True)
class Configuration:
    """Configuration file of Serve's, read and checked.

    Attributes:
        document: its outline is that of one; nothing else is known of it.
        written: what is wrong with how it is written.
    """

    path: Path
    document: dict[str, Any]
    written: tuple[ConfigFault, ...]

    def faults(self, environment: Mapping[str, str], find: FindFaults = own_faults) -> list[str]:
        """All that is wrong with it, a line a fault: with how it is written, and with what it says.

        Args:
            environment: of the service; it may hold keys.
            find: `own_faults`, or `all_faults` of `serve_faults.py`, which knows Serve's own part too.
        """
        told = tuple(f"{fault.path}:" for fault in self.written)
        found = find(self.document, environment)
        return [*map(str, self.written), *(fault for fault in found if not fault.startswith(told))]


def read_configuration(path: Path) -> Configuration:
    """Read a configuration of Serve's, of which only the outline is looked at, and how it is written.

    Raises:
        StartError: there is no such file, or it is no configuration of Serve.
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
    """Read a configuration of Serve's, of which only the outline is looked at, and how it is written.

    Raises:
        StartError: there is no such file, it is no configuration of Serve, or YAML reads it otherwise than people do.
    """
    configuration = read_configuration(path)
    if configuration.written:
        raise StartError(f"{path}: {'; '.join(map(str, configuration.written))}")
    return configuration.document


def check_configuration(path: Path, environment: Mapping[str, str]) -> None:
    """Check what is Darkroom's own in the file and the environment, in a moment; Serve would need half a minute.

    Raises:
        StartError: what is wrong, and what to write instead.
    """
    if faults := read_configuration(path).faults(environment):
        raise StartError(f"{path}: {'; '.join(faults)}")
