"""The builder that serve_config.yaml names: its `args` -> the application."""

from ray import serve
from ray.serve import Application, Deployment

from deployments import cluster
from deployments.logs import adopt_loggers, log_warnings
from deployments.replica import Replica
from deployments.service_config import DEPLOYMENT_NAME, ServiceConfig


def build_app(config: ServiceConfig) -> Application:
    """The service, sized for the cluster that it runs on."""
    return sized(config, Replica)


def sized(config: ServiceConfig, replica: type[Replica]) -> Application:
    """Size a replica for the nodes of the cluster, and make an application of the class of its replicas.

    With `device: auto` a replica asks for a GPU only where a node has one now: one that asks where there is none waits
    for such a node, maybe for ever. (`num_gpus: 0` on the other hand hides no GPU from it, so the device travels in its
    configuration.) With `device: cuda` it waits.

    A rolling update starts each new replica before it stops an old one, unless room has to be made for it
    (`ServiceConfig.needs_room_made`): then Serve would wait for room, maybe for ever, so the old one goes first.
    """
    nodes = cluster.nodes()
    fitted = config.fitted(nodes)
    warnings = fitted.warnings(nodes, asked=config.pipeline.device)
    adopt_loggers()
    log_warnings(warnings)
    old_first = fitted.needs_room_made(nodes, cluster.free_on_nodes())
    deployment: Deployment = serve.deployment(
        name=DEPLOYMENT_NAME,
        max_ongoing_requests=fitted.max_ongoing_requests,
        ray_actor_options={"num_cpus": fitted.num_cpus, "num_gpus": fitted.num_gpus},
        max_surge_percent=0 if old_first else 1,  # rounded up: one replica at a time
    )(replica)
    return deployment.bind(fitted, warnings)
