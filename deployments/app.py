"""The application builder that serve_config.yaml names: `args` -> Serve application."""

from ray import serve
from ray.serve import Application, Deployment

from deployments import cluster
from deployments.logs import adopt_loggers, log_warnings
from deployments.replica import Replica
from deployments.service_config import DEPLOYMENT_NAME, ServiceConfig


def build_app(config: ServiceConfig) -> Application:
    """Build the service, sized for the cluster that it runs on."""
    return sized(config, Replica)


def sized(config: ServiceConfig, replica: type[Replica]) -> Application:
    """Size replicas for the nodes of the cluster, and make an application of them.

    With `device: auto` a replica reserves a GPU only if a node has one now. A replica that reserves a GPU on a cluster
    without one waits for such a node, maybe for ever; with `device: cuda` this is wanted. (`num_gpus: 0` does not hide
    a GPU from a replica, so the device is passed in the configuration.)

    A rolling update starts each new replica before it stops an old one. If the cluster has no free resources for one
    more replica (`ServiceConfig.needs_room_made`), Serve would wait, maybe for ever, so the old one is stopped first.
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
