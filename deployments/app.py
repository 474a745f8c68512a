"""The builder that serve_config.yaml names: its `args` -> the application."""

import ray
from ray import serve
from ray.serve import Application, Deployment

from deployments.classifier import Classifier
from deployments.config import DEPLOYMENT, ServiceConfig


def build_app(config: ServiceConfig) -> Application:
    """The service, sized for the cluster that it runs on."""
    return sized(config, Classifier)


def sized(config: ServiceConfig, classifier: type[Classifier]) -> Application:
    """The same file serves a laptop and a GPU node: a replica asks for a GPU only where the cluster has one.

    (One that asks where there is none stays pending for ever; `num_gpus: 0` on the other hand hides no GPU from it, so
    the device travels in its configuration.)

    A rolling update starts each new replica before it stops an old one where there is room for it now. Where there is
    none, Serve would wait for room, maybe for ever; so the old one goes first.
    """
    fitted = config.fitted(ray.cluster_resources())  # type: ignore[no-untyped-call]
    room = fitted.fits(ray.available_resources())  # type: ignore[no-untyped-call]
    deployment: Deployment = serve.deployment(
        name=DEPLOYMENT,
        max_ongoing_requests=fitted.max_ongoing_requests,
        ray_actor_options={"num_cpus": fitted.num_cpus, "num_gpus": fitted.num_gpus},
        max_surge_percent=1 if room else 0,  # rounded up: one replica at a time
    )(classifier)
    return deployment.bind(fitted)
