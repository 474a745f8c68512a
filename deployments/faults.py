"""What is wrong with a configuration: a line a fault, with the path of its key and what to write instead."""

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from deployments.access import KEYS_VARIABLE, Access
from deployments.config import DEPLOYMENT, LiveConfig, ServiceConfig
from pipeline.config import PipelineConfig

_PLACES = {
    **dict.fromkeys(PipelineConfig.model_fields, "args.pipeline"),
    **dict.fromkeys(ServiceConfig.model_fields, "args"),
    **dict.fromkeys(LiveConfig.model_fields, "user_config"),
}
"""Where each of Darkroom's own keys stands."""


UNKNOWN = "extra_forbidden"
"""What pydantic calls a key that is none of the model's."""


def in_words(error: ValueError) -> str:
    """What a configuration's error says, in one line."""
    return "; ".join(faults_in(error))


def faults_in(error: ValueError, path: str = "") -> list[str]:
    """What a configuration's error says: of each fault the path of its key, and what is wrong with its value.

    Args:
        error: pydantic's, or one with a message for people.
        path: of what was validated.
    """
    if not isinstance(error, ValidationError):
        return [_line(path, str(error))]
    return [fault_line(fault, path) for fault in error.errors()]


def fault_line(fault: ErrorDetails, path: str = "") -> str:
    """One of the faults that pydantic has found."""
    unknown = fault["type"] == UNKNOWN
    says = _no_such_key(str(fault["loc"][-1])) if unknown else fault["msg"].removeprefix("Value error, ")
    return _line(".".join(filter(None, [path, *map(str, fault["loc"])])), says)


def unknown_key(key: str, known: Collection[str]) -> str:
    """Says that there is no such key, and which one may be meant."""
    nearest = difflib.get_close_matches(key, known, n=1)
    return f"no such key; did you mean {nearest[0]}?" if nearest else "no such key"


def _no_such_key(key: str) -> str:
    if key in _PLACES:
        return f"no such key here; it stands under {_PLACES[key]}"
    return unknown_key(key, _PLACES)


def _line(path: str, says: str) -> str:
    return f"{path}: {says}" if path else says


def own_applications(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The applications in a document that are Darkroom, each with its path."""
    for number, application in enumerate(document["applications"]):
        if isinstance(application, dict) and application.get("import_path") == "deployments.app:build_app":
            yield f"applications.{number}", application


def own_deployments(application: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The deployments that an application lists, each with its path; what is none is for Serve to refuse."""
    listed = application.get("deployments")
    for number, deployment in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(deployment, dict):
            yield f"deployments.{number}", deployment


def own_faults(document: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """All that is wrong with what is Darkroom's own: args, user_config, both together, and the keys that open it."""
    faults = []
    for path, application in own_applications(document):
        config = None
        try:
            config = ServiceConfig.model_validate(application.get("args") or {})
            Access(config.api_keys_file, environment.get(KEYS_VARIABLE))
        except ValueError as error:
            faults += faults_in(error, f"{path}.args")
        names = list[Any]()
        for inner, deployment in own_deployments(application):
            faults += _deployment_faults(deployment, config, f"{path}.{inner}")
            if (name := deployment.get("name")) in names:
                faults.append(f"{path}.{inner}: {name} stands here once more; write all its settings in one place")
            names.append(name)
    return faults


def _deployment_faults(deployment: Mapping[str, Any], config: ServiceConfig | None, path: str) -> list[str]:
    faults = []
    if (name := deployment.get("name")) != DEPLOYMENT:
        faults.append(f"{path}.name: Darkroom has no deployment {name!r}; write {DEPLOYMENT}")
    try:
        live = LiveConfig.model_validate(deployment.get("user_config") or {})
    except ValidationError as error:
        return faults + faults_in(error, f"{path}.user_config")
    together = config.live_faults(live) if config else []
    faults += [f"{path}.user_config: {fault}" for fault in together]
    return faults + (_reserved_elsewhere(deployment, config, path) if config else [])


def _reserved_elsewhere(deployment: Mapping[str, Any], config: ServiceConfig, path: str) -> list[str]:
    """GPUs reserved where Serve's documentation has them: every replica would still have a whole GPU's workers."""
    options = deployment.get("ray_actor_options")
    num_gpus = options.get("num_gpus") if isinstance(options, dict) else None
    if num_gpus is None or config.pipeline.workers is not None:
        return []
    return [
        f"{path}.ray_actor_options.num_gpus: {num_gpus} does not change how many workers a replica has; write "
        "replicas_per_gpu under args instead, or workers under args.pipeline as well"
    ]
