"""Faults in `autoscaling_config.policy`: Serve reports them as a traceback, or only once a replica is to be added."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from deployments.autoscaling import ByWork

POLICY_FUNCTION: Final = f"{ByWork.__module__}:{ByWork.__name__}"
"""Darkroom's own policy, as written under `policy_function`."""

_SETTINGS: Final = tuple(inspect.signature(ByWork).parameters)


def scaling_faults(
    deployment: Mapping[str, Any], path: str, unknown_key: Callable[[str, Collection[str]], str]
) -> Iterator[str]:
    """Yield the faults in the autoscaling policy of a deployment, one line each. Other policies are left to Serve.

    Args:
        deployment: entry of `deployments` in a configuration.
        path: its path.
        unknown_key: describes an unknown key among known ones.
    """
    scaling = deployment.get("autoscaling_config")
    policy = scaling.get("policy") if isinstance(scaling, dict) else None
    if not isinstance(policy, dict):  # Serve reports what is no mapping
        return
    path, function = f"{path}.autoscaling_config.policy", policy.get("policy_function")
    if not isinstance(function, str) or function.replace(":", ".").rpartition(".")[0] != ByWork.__module__:
        return
    if function.replace(":", ".") != POLICY_FUNCTION.replace(":", "."):
        yield f"{path}.policy_function: there is no {function!r}; did you mean {POLICY_FUNCTION}?"
        return
    settings = policy.get("policy_kwargs", {})
    if not isinstance(settings, dict):
        yield f"{path}.policy_kwargs: {settings!r} must be a mapping of {', '.join(_SETTINGS)}"
        return
    for name, value in settings.items():
        if name not in _SETTINGS:
            yield f"{path}.policy_kwargs.{name}: {unknown_key(str(name), _SETTINGS)}"
            continue
        try:
            ByWork(**{name: value})
        except ValueError as error:  # begins with the name of the setting
            yield f"{path}.policy_kwargs.{error}"
