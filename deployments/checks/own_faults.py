"""Faults in Darkroom's own settings: one line each, with the path of the key and a correction."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from deployments.checks.address import IMPORT_PATH as IMPORT_PATH
from deployments.checks.address import IMPORT_PATHS as IMPORT_PATHS
from deployments.checks.address import address_faults
from deployments.checks.scaling_policy import scaling_faults
from deployments.http.auth import KEYS_VARIABLE, Access
from deployments.live_config import LiveConfig
from deployments.service_config import DEPLOYMENT_NAME, OLD_DEPLOYMENT_NAME, ServiceConfig
from pipeline.config import PipelineConfig
from pipeline.model.catalogue import names_fault
from pipeline.strict_settings import RENAMED_SETTING

_SECTION_BY_KEY = {
    **dict.fromkeys(PipelineConfig.model_fields, "args.pipeline"),
    **dict.fromkeys(ServiceConfig.model_fields, "args"),
    **dict.fromkeys(LiveConfig.model_fields, "user_config"),
}
"""Section of serve_config.yaml for each of Darkroom's own keys."""

_SECRET_KEY: Final = re.compile(r"key|token|secret|passw|credential|env_vars", re.IGNORECASE)
"""Keys that may hold secrets: no message repeats their values."""

_FAULTS_WITHOUT_VALUE: Final = ("missing", "value_error", "assertion_error", "extra_forbidden", RENAMED_SETTING)
"""Fault types to which no value is added: their messages name it already, or there is none."""

UNKNOWN_KEY = "extra_forbidden"
"""Pydantic's type of the fault "unknown key"."""


def in_words(error: ValueError) -> str:
    """Describe an error of a configuration in one line."""
    return "; ".join(faults_in(error))


def faults_in(error: ValueError, path: str = "") -> list[str]:
    """List the faults in an error of a configuration, each with the path of the key.

    Args:
        error: an error of pydantic, or one whose message is readable as it is.
        path: path of the validated mapping.
    """
    if not isinstance(error, ValidationError):
        return [_line(path, str(error))]
    return [fault_line(fault, path) for fault in error.errors()]


def fault_line(fault: ErrorDetails, path: str = "") -> str:
    """Describe one fault that pydantic has found in one line."""
    place = ".".join(filter(None, [path, *map(str, fault["loc"])]))
    if fault["type"] == UNKNOWN_KEY:
        return _line(place, _no_such_key(str(fault["loc"][-1])))
    says = fault["msg"].removeprefix("Value error, ")
    if fault["type"] not in _FAULTS_WITHOUT_VALUE and not _SECRET_KEY.search(place):
        says = f"{says}, not {in_yaml(fault['input'])}"
    return _line(place, says)


def in_yaml(value: object) -> str:
    """Write a value for a message as in YAML, cut to a maximum length."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def unknown_key(key: str, known: Collection[str]) -> str:
    """Say that a key is unknown, and suggest a known one."""
    nearest = difflib.get_close_matches(key, known, n=1)
    return f"no such key; did you mean {nearest[0]}?" if nearest else "no such key"


def _no_such_key(key: str) -> str:
    if key in _SECTION_BY_KEY:
        return f"no such key here; it stands under {_SECTION_BY_KEY[key]}"
    return unknown_key(key, _SECTION_BY_KEY)


def _line(path: str, says: str) -> str:
    return f"{path}: {says}" if path else says


def own_applications(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the applications in a document that run Darkroom, each with its path."""
    for number, application in enumerate(document["applications"]):
        if isinstance(application, dict) and application.get("import_path") in IMPORT_PATHS:
            yield f"applications.{number}", application


def own_deployments(application: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the deployments that an application lists, each with its path; skip entries that Serve will refuse."""
    listed = application.get("deployments")
    for number, deployment in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(deployment, dict):
            yield f"deployments.{number}", deployment


def own_faults(document: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """List all faults in the settings that Darkroom reads itself.

    They are the address, args, user_config, their combination, and the API keys.
    """
    faults = [f"{path}: {says}" for path, says in address_faults(document, environment)]
    faults += _import_path_faults(document)
    for path, application in own_applications(document):
        config = None
        try:
            config = ServiceConfig.model_validate(written_or_empty(application, "args"))
            Access(config.api_keys_file, environment.get(KEYS_VARIABLE))
        except ValueError as error:
            faults += faults_in(error, f"{path}.args")
        brings_code = bool(application.get("runtime_env"))  # Serve looks there first, on another machine perhaps
        if config and not brings_code and (fault := names_fault(config.pipeline.model, config.pipeline.weights)):
            faults.append(f"{path}.args.pipeline.{fault[0]}: {fault[1]}")
        names = list[Any]()
        for inner, deployment in own_deployments(application):
            faults += _deployment_faults(deployment, config, f"{path}.{inner}")
            if (name := deployment.get("name")) in names:
                faults.append(f"{path}.{inner}: {name} stands here once more; write all its settings in one place")
            names.append(name)
        if config and not names:  # a start takes the usual user_config then
            faults += [f"{path}.args: {fault}" for fault in config.live_faults(LiveConfig())]
    return faults


def written_or_empty(mapping: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key, or an empty mapping if the key is missing or null."""
    value = mapping.get(key)
    return {} if value is None else value


def _import_path_faults(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield misspellings of Darkroom's import path: Serve would report a failed import after half a minute."""
    for number, application in enumerate(document["applications"]):
        import_path = application.get("import_path") if isinstance(application, dict) else None
        if not isinstance(import_path, str) or import_path in IMPORT_PATHS:
            continue
        if difflib.SequenceMatcher(None, import_path, IMPORT_PATH).ratio() > 0.8 and not _is_of_others(import_path):
            yield f"applications.{number}.import_path: there is no {import_path!r}; did you mean {IMPORT_PATH}?"


def _is_of_others(import_path: str) -> bool:
    """Return whether a module other than Darkroom's builder has this name; import nothing."""
    package, *inner = import_path.replace(":", ".").split(".")[:-1] or [import_path]
    if package == IMPORT_PATH.partition(".")[0]:
        return inner != ["app"] and Path(__file__).parent.parent.joinpath(*inner).with_suffix(".py").is_file()
    try:
        return find_spec(package) is not None or Path(package).is_dir() or Path(f"{package}.py").is_file()
    except (ValueError, ImportError):
        return False


def _deployment_faults(deployment: Mapping[str, Any], config: ServiceConfig | None, path: str) -> list[str]:
    faults = []
    if (name := deployment.get("name")) == OLD_DEPLOYMENT_NAME:
        faults.append(f"{path}.name: the deployment {name} is called {DEPLOYMENT_NAME} now; write {DEPLOYMENT_NAME}")
    elif name != DEPLOYMENT_NAME:
        faults.append(f"{path}.name: Darkroom has no deployment {name!r}; write {DEPLOYMENT_NAME}")
    faults += scaling_faults(deployment, path, unknown_key)
    try:
        live = LiveConfig.model_validate(written_or_empty(deployment, "user_config"))
    except ValidationError as error:
        return faults + faults_in(error, f"{path}.user_config")
    together = config.live_faults(live) if config else []
    faults += [f"{path}.user_config: {fault}" for fault in together]
    if config:
        faults += _reserved_elsewhere(deployment, config, path) + _set_elsewhere(deployment, config, path)
    return faults


def _reserved_elsewhere(deployment: Mapping[str, Any], config: ServiceConfig, path: str) -> list[str]:
    """List GPUs that are reserved in `ray_actor_options`: a replica would still get the workers of a whole GPU."""
    options = deployment.get("ray_actor_options")
    num_gpus = options.get("num_gpus") if isinstance(options, dict) else None
    if num_gpus is None or config.pipeline.decode_workers is not None:
        return []
    return [
        f"{path}.ray_actor_options.num_gpus: {num_gpus} does not change how many workers a replica has; write "
        "gpu_share under args instead, or decode_workers under args.pipeline as well"
    ]


def _set_elsewhere(deployment: Mapping[str, Any], config: ServiceConfig, path: str) -> list[str]:
    """List Serve settings that contradict args, and targets that can never be reached."""
    faults, most = [], config.max_ongoing_requests
    if deployment.get("max_ongoing_requests", most) != most:
        faults.append(
            f"{path}.max_ongoing_requests: it contradicts max_ongoing_requests: {most} under args, by which batches "
            "are sized; write it there alone"
        )
    scaling = deployment.get("autoscaling_config")
    target = scaling.get("target_ongoing_requests") if isinstance(scaling, dict) else None
    if isinstance(target, int | float) and target > most:
        faults.append(
            f"{path}.autoscaling_config.target_ongoing_requests: {target:g} are never in a replica with "
            f"max_ongoing_requests: {most}, so none would be added; write {most // 2} or less"
        )
    return faults
