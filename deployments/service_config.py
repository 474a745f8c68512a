"""Settings that are fixed for the life of a replica, and the resources that Ray reserves for it: `args`."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from deployments.live_config import LiveConfig, no_such_parameter
from deployments.node import Node
from pipeline.config import HEAD_PARAMETERS, PipelineConfig
from pipeline.strict_settings import StrictSettings

DEPLOYMENT_NAME: Final = "Model"
"""Name of the deployment in each application, for Serve and under `deployments` in serve_config.yaml."""

OLD_DEPLOYMENT_NAME: Final = "Classifier"
"""Name of the deployment in version 0.1.0."""

_CPUS_OF_A_REPLICA: Final = 2
"""CPUs that a replica reserves if it has no GPU."""

_MAX_REPLICAS_PER_GPU: Final = 64
"""Largest n for which 1/n of a GPU, rounded down to Ray's steps, fits exactly n times (true for all smaller n)."""

_LEAST_GPU_SHARE: Final = 0.01
"""Least part of a GPU that a replica may reserve."""

_CPUS_PER_GPU: Final = 1.0
"""CPUs that the replicas of one GPU reserve together while no node has a GPU: any GPU node has that many."""

_RAY_STEPS_PER_UNIT: Final = 10_000
"""Steps in one CPU or GPU: Ray counts resources to the fourth decimal place."""

_ROUNDING_ERROR: Final = 1e-9
"""Error of a product of floats, which must not lose a whole core: 10 x 0.7 is 6.999..."""


class ServiceConfig(StrictSettings):
    """Settings that are fixed for the life of a replica: `args`. None means: derived from the cluster."""

    pipeline: PipelineConfig = Field(PipelineConfig(), description="how images are decoded and classified")
    max_ongoing_requests: int = Field(
        512, ge=1, description="requests in a replica at a time; the balancer queues the rest"
    )
    num_cpus: float | None = Field(None, ge=0, description="logical CPUs that Ray reserves for a replica")
    replicas_per_gpu: int = Field(
        1, ge=1, le=_MAX_REPLICAS_PER_GPU, description="replicas that share a GPU and its share of the cores"
    )
    gpu_share: float | None = Field(
        None,
        ge=_LEAST_GPU_SHARE,
        le=1,
        description="part of one GPU and of the cores of its node that a replica reserves; so applications share a GPU",
    )
    api_keys_file: str | None = Field(
        None, description="file with one API key a line, read again when it changes; without it, DARKROOM_API_KEYS"
    )
    cors_origins: tuple[str, ...] = Field(
        (),
        strict=False,
        description="origins whose pages may call this service from a browser, e.g. https://example.org; * for all",
    )

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(
                r"https?://[a-z0-9.-]+(:\d+)?|https?://\[[0-9a-f:]+\](:\d+)?", origin
            ):
                raise ValueError(
                    f"{origin} is not what a browser sends as origin; write scheme and host in small letters, a port "
                    "unless it is the default one, and no path, e.g. https://example.org"
                )
        if "*" in origins and len(origins) > 1:
            raise ValueError("* means every origin; write it alone, or the origins without it")
        return origins

    @field_validator("api_keys_file")
    @classmethod
    def _is_found_everywhere(cls, path: str | None) -> str | None:
        if path is not None and not Path(path).is_absolute():  # not repeated: it may be a key instead of a path
            raise ValueError("the path is relative, and replicas run in folders of Ray; write an absolute path")
        if path is not None and "\0" in path:
            raise ValueError("the path holds a zero byte; write an absolute path")
        return path

    @model_validator(mode="after")
    def _shares_a_gpu_only_where_there_may_be_one(self) -> Self:
        if self.replicas_per_gpu > 1 and self.pipeline.device == "cpu":
            raise ValueError(
                f"replicas_per_gpu: {self.replicas_per_gpu} replicas cannot share a GPU with device: cpu; write "
                "replicas_per_gpu: 1, or device: cuda under pipeline"
            )
        if self.gpu_share is not None and self.pipeline.device == "cpu":
            raise ValueError(
                f"gpu_share: {self.gpu_share:g} of a GPU cannot be reserved with device: cpu; remove gpu_share, or "
                "write device: cuda under pipeline"
            )
        if self.gpu_share is not None and self.replicas_per_gpu > 1:
            raise ValueError(
                f"gpu_share: {self.gpu_share:g} and replicas_per_gpu: {self.replicas_per_gpu} both set the part of a "
                "GPU that a replica reserves; keep one of them"
            )
        return self

    def check_live(self, live: LiveConfig) -> None:
        """Raise ValueError, with a correction, if `live` does not fit this configuration."""
        if faults := self.live_faults(live):
            raise ValueError("; ".join(faults))

    def live_faults(self, live: LiveConfig) -> list[str]:
        """List the settings in `live` that do not fit this configuration, each with a correction."""
        faults = []
        try:
            self.pipeline.check_limits(live)
        except ValueError as error:
            faults.append(str(error))
        if live.max_batch_size > self.max_ongoing_requests:
            faults.append(
                f"max_batch_size: {live.max_batch_size} can never be filled with single images, as "
                f"max_ongoing_requests is {self.max_ongoing_requests}; write max_ongoing_requests: "
                f"{2 * live.max_batch_size} under args, or a smaller max_batch_size under user_config"
            )
        if self.pipeline.head:
            known = HEAD_PARAMETERS[self.pipeline.head]
            faults += [
                no_such_parameter(name, value, self.pipeline.head, known)
                for name, value in live.head_values.items()
                if name not in known
            ]
        if self.pipeline.head in (None, "classify") and live.top_k > self.pipeline.max_top_k:
            faults.append(
                f"top_k: {live.top_k} is above max_top_k: {self.pipeline.max_top_k}; write a smaller top_k under "
                f"user_config, or max_top_k: {live.top_k} under args"
            )
        if live.max_image_bytes > live.max_request_bytes:
            faults.append(
                f"max_image_bytes: {live.max_image_bytes} do not fit into max_request_bytes: {live.max_request_bytes}; "
                f"write max_request_bytes: {live.max_image_bytes} or more"
            )
        if live.max_image_work_s > live.max_request_work_s:
            faults.append(
                f"max_image_work_s: {live.max_image_work_s:g} is above max_request_work_s: "
                f"{live.max_request_work_s:g}, so no request could hold such an image; write max_request_work_s: "
                f"{live.max_image_work_s:g} or more"
            )
        if live.max_request_bytes > live.max_bytes_in_flight:
            faults.append(
                f"max_request_bytes: {live.max_request_bytes} do not fit into max_bytes_in_flight: "
                f"{live.max_bytes_in_flight}; write max_bytes_in_flight: {live.max_request_bytes} or more"
            )
        return faults

    # ---- sizes ------------------------------------------------------------------------------------------------------

    def fitted(self, nodes: Sequence[Node]) -> Self:
        """Settle the device and the resources that Ray reserves for a replica, from the nodes of a cluster.

        On a GPU, a replica has a GPU, or its share of one, and the same share of the node's cores. Only nodes with a
        GPU count. The node with the fewest cores for each replica sets the reservation, so that every GPU holds
        `replicas_per_gpu` replicas. The numbers of workers and of concurrent batches stay open: `placed` settles them
        on the node that the replica runs on. If no node has a GPU yet and `device: cuda` is set, the cores of the
        future node are unknown: the replicas of one GPU reserve one CPU together, and wait.

        On the CPU, a replica has two cores, each of which computes a batch, and one decode worker that uses a little
        of both; the service grows by replicas. The node with the most cores counts: if it has fewer than two, a
        replica gets all of them.

        Args:
            nodes: the nodes that are alive, with their total resources.

        Returns:
            A copy with these settings.
        """
        gpu_nodes = [node for node in nodes if node.gpus >= self._gpu_share]
        device = self.pipeline.device
        if device == "auto":
            device = "cuda" if gpu_nodes else "cpu"
        if device == "cuda":
            num_cpus = min(map(self._core_share, gpu_nodes), default=_CPUS_PER_GPU * self._gpu_share)
            if self.pipeline.decode_workers:
                num_cpus = min(num_cpus, self.pipeline.decode_workers + (self.pipeline.concurrent_batches or 1))
            return self._with_sizes(num_cpus, device=device)
        cpus = max((node.cpus for node in nodes), default=0.0) or _CPUS_OF_A_REPLICA  # no node yet: assume as many
        concurrent_batches = self.pipeline.concurrent_batches or min(_CPUS_OF_A_REPLICA, math.ceil(cpus))
        num_cpus = min(concurrent_batches + (self.pipeline.decode_workers or 0), cpus)
        return self._with_sizes(
            num_cpus,
            device=device,
            decode_workers=self.pipeline.decode_workers or 1,
            concurrent_batches=concurrent_batches,
        )

    def placed(self, node: Node) -> Self:
        """Settle workers and concurrent batches of a `fitted` configuration for the replica's node; return a copy.

        On a GPU, there is one worker for each core of the replica. Workers run at a lower priority than the replica's
        interpreter (`pipeline.bounds.WORKER_NICENESS`), which is seldom busy all the time: a core reserved for it stood
        idle.
        """
        workers = self.pipeline.decode_workers or self.cores_on(node)
        return self._with_sizes(
            self.num_cpus, decode_workers=workers, concurrent_batches=self.pipeline.concurrent_batches or 1
        )

    @property
    def is_placed(self) -> bool:
        """True if the numbers of workers and of concurrent batches are settled."""
        return self.pipeline.decode_workers is not None and self.pipeline.concurrent_batches is not None

    def cores_on(self, node: Node) -> int:
        """Return the cores of a node that a replica of this `fitted` configuration has by default."""
        if self.pipeline.device == "cuda":
            return max(1, math.floor(self._core_share(node)))
        return min(_CPUS_OF_A_REPLICA, max(1, math.ceil(node.cpus)))

    def fits(self, free: Sequence[Node]) -> bool:
        """Return whether one more replica of this `fitted` configuration fits onto the cluster.

        One node has to have all of its resources: free CPUs of one node and a free GPU of another do not help. (For
        several GPUs on one node Ray reports only their free sum.)

        Args:
            free: free resources of each node.
        """
        return any(node.holds(self.num_cpus or 0.0, self.num_gpus) for node in free)

    def needs_room_made(self, nodes: Sequence[Node], free: Sequence[Node]) -> bool:
        """Return whether one more replica fits only after another one has been stopped.

        False if no node is large enough even when empty, as while nodes with a GPU are still to come: stopping a
        running replica would gain nothing.

        Args:
            nodes: total resources of each node.
            free: free resources of each node.
        """
        return self.fits(nodes) and not self.fits(free)

    def warnings(self, nodes: Sequence[Node], asked: str) -> tuple[str, ...]:
        """Warnings for the operator about this `fitted` configuration, one sentence each.

        Args:
            nodes: the nodes that the configuration was fitted to.
            asked: `device` as written in the file.
        """
        if asked == "auto" and self.pipeline.device == "cpu":
            return (
                f"device: auto found no GPU on any node of the cluster ({len(nodes)} alive), so the model runs on the "
                "CPU until args are changed; write device: cuda to have replicas wait for a node with a GPU, or "
                "device: cpu where the CPU is meant",
            )
        if self.pipeline.device == "cuda" and not any(node.gpus >= self.num_gpus for node in nodes):
            return (
                f"device: cuda found no GPU on any node of the cluster ({len(nodes)} alive), so replicas wait for a "
                f"node with one; each reserves num_cpus: {self.num_cpus:g} and num_gpus: {self.num_gpus:g} of it, and "
                "takes its workers from the cores that come with its share",
            )
        return ()

    @property
    def num_gpus(self) -> float:
        """GPUs that Ray reserves for a replica, once `fitted`."""
        return self._gpu_share if self.pipeline.device == "cuda" else 0.0

    @property
    def _gpu_share(self) -> float:
        if self.gpu_share is not None:
            return math.floor(_RAY_STEPS_PER_UNIT * self.gpu_share + _ROUNDING_ERROR) / _RAY_STEPS_PER_UNIT
        return math.floor(_RAY_STEPS_PER_UNIT / self.replicas_per_gpu) / _RAY_STEPS_PER_UNIT

    def _core_share(self, node: Node) -> float:
        """CPUs of a GPU node for each replica on it: a whole number, or a fraction if below one."""
        if self.gpu_share is None:
            share = node.cpus / max(1, math.floor(node.gpus * self.replicas_per_gpu))
        else:
            share = node.cpus * self.gpu_share / max(1.0, node.gpus) + _ROUNDING_ERROR
        return float(math.floor(share)) if share >= 1 else math.floor(share * _RAY_STEPS_PER_UNIT) / _RAY_STEPS_PER_UNIT

    def _with_sizes(self, num_cpus: float | None, **sizes: object) -> Self:
        """Copy with these settings of the pipeline; a configured `num_cpus` stays."""
        pipeline = self.pipeline.model_copy(update=sizes)
        reserved = num_cpus if self.num_cpus is None else self.num_cpus
        return self.model_copy(update={"pipeline": pipeline, "num_cpus": reserved})
