"""Chooses one of the applications of Darkroom in a configuration, for commands that work on one."""

from collections.abc import Mapping
from typing import Any

from deployments.checks.address import DEFAULT_NAME
from deployments.checks.own_faults import IMPORT_PATH, own_applications


class NotChosen(ValueError):
    """The configuration has no such application, or several; the message lists them."""


def chosen_application(document: Mapping[str, Any], name: str | None) -> tuple[str, dict[str, Any]]:
    """Return one of Darkroom's applications in a configuration, with its path.

    Args:
        document: content of the configuration.
        name: name of the application; None for the only one.

    Raises:
        NotChosen: there is none, none of this name, or several and no name.
    """
    own = list(own_applications(document))
    if not own:
        raise NotChosen(f"no application has import_path: {IMPORT_PATH}")
    named = [(path, application) for path, application in own if name in (None, name_of(application))]
    if len(named) == 1:
        path, _ = named[0]
        application: dict[str, Any] = document["applications"][int(path.rpartition(".")[2])]
        return path, application
    names = ", ".join(name_of(application) for _, application in own)
    if name is None:
        raise NotChosen(f"there are {len(own)} applications ({names}); choose one by --application NAME")
    raise NotChosen(f"there is no application {name!r} to choose; there {_is_or_are(len(own))} {names}")


def name_of(application: Mapping[str, Any]) -> str:
    """Return the name of an application, with Serve's default."""
    return str(application.get("name", DEFAULT_NAME))


def _is_or_are(count: int) -> str:
    return "is" if count == 1 else "are"
