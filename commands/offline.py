"""Settings of an engine without a service: from serve_config.yaml, or the defaults."""

from pathlib import Path

from commands.files import NothingToDo
from deployments.checks.chosen_application import chosen_application
from deployments.checks.own_faults import in_words, own_deployments, written_or_empty
from deployments.live_config import LiveConfig
from deployments.local.endpoint import StartError, read_document
from deployments.service_config import ServiceConfig
from pipeline.config import PipelineConfig

USUAL_CONFIG = Path("serve_config.yaml")
"""Configuration that is read if none is named and this file exists."""


def offline_settings(
    config: Path | None, top_k: int | None, application: str | None = None
) -> tuple[PipelineConfig, LiveConfig | None]:
    """Read the pipeline's settings and the limits on images from a configuration.

    Args:
        config: the file; None for `USUAL_CONFIG` or, if that file is missing, the defaults.
        top_k: number of classes for every image; replaces that of the configuration, unless it is None.
        application: name of the application in the file; None for the only one.

    Raises:
        NothingToDo: the file is missing or has faults.
    """
    if config is None and not USUAL_CONFIG.exists():
        return _with_top_k(PipelineConfig(), top_k), None
    path = config or USUAL_CONFIG
    try:
        pipeline, limits = _read(path, application)
    except StartError as error:
        raise NothingToDo(str(error)) from error
    except ValueError as error:
        raise NothingToDo(f"{path}: {in_words(error)}") from error
    return _with_top_k(pipeline, top_k), limits


def _with_top_k(pipeline: PipelineConfig, top_k: int | None) -> PipelineConfig:
    return pipeline.model_copy(update={"max_top_k": top_k}) if top_k else pipeline


def _read(path: Path, name: str | None) -> tuple[PipelineConfig, LiveConfig | None]:
    _, application = chosen_application(read_document(path), name)
    pipeline = ServiceConfig.model_validate(written_or_empty(application, "args")).pipeline
    for _, deployment in own_deployments(application):
        limits = LiveConfig.model_validate(written_or_empty(deployment, "user_config"))
        pipeline.check_limits(limits)
        return pipeline, limits
    return pipeline, None
