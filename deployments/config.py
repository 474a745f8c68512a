"""What a deployment is told: `args` of serve_config.yaml in `ServiceConfig`, its `user_config` in `LiveConfig`."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator

from pipeline.config import Frozen, Limits, PipelineConfig

DEPLOYMENT = "Classifier"
"""What Serve, and `deployments` in serve_config.yaml, call the replicas."""

_CPUS_OF_A_REPLICA = 2
"""Where there is no GPU."""


class LiveConfig(Limits):
    """What changes without a restart: `user_config`."""

    batch_wait_s: float = Field(
        0.0, ge=0, le=1, description="how long @serve.batch waits for more requests; later stages gather on their own"
    )
    top_k: int = Field(5, ge=1, description="classes an answer names where the request does not say")
    max_request_bytes: int = Field(128 << 20, ge=1, description="bytes of a request's body")
    max_images_per_request: int = Field(256, ge=1, description="images of one request")
    body_timeout_s: float = Field(60.0, gt=0, description="a body that takes longer to arrive is refused")
    request_timeout_s: float = Field(
        120.0, gt=0, description="a request that is not answered by then is given up; X-Request-Timeout-Ms shortens it"
    )
    max_wait_s: float = Field(0.25, gt=0, description="a request whose images would wait longer is refused at once")
    max_bytes_in_flight: int = Field(512 << 20, ge=1, description="bytes of all bodies that a replica has in work")


class ServiceConfig(Frozen):
    """What is fixed for the life of a replica: `args`. Where None stands, the cluster decides."""

    pipeline: PipelineConfig = Field(PipelineConfig(), description="how images are decoded and classified")
    max_ongoing_requests: int = Field(512, ge=1, description="requests in a replica; the balancer holds back the rest")
    num_cpus: float | None = Field(None, ge=0, description="logical CPUs that Ray reserves for a replica")
    api_keys_file: str | None = Field(
        None, description="file with a bearer key a line, read again when it changes; without it, DARKROOM_API_KEYS"
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="origins whose pages may call this service from a browser, e.g. https://example.org; * for all"
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
                    "where it is not the usual one, and no path, e.g. https://example.org"
                )
        if "*" in origins and len(origins) > 1:
            raise ValueError("* means every origin; write it alone, or the origins without it")
        return origins

    @field_validator("api_keys_file")
    @classmethod
    def _is_found_everywhere(cls, path: str | None) -> str | None:
        if path is not None and not Path(path).is_absolute():
            raise ValueError(f"{path} is relative, and replicas run in folders of Ray's; write the whole path")
        return path

    def check_live(self, live: LiveConfig) -> None:
        """Raises ValueError, with what to write instead, where `live` does not fit this configuration."""
        if faults := self.live_faults(live):
            raise ValueError("; ".join(faults))

    def live_faults(self, live: LiveConfig) -> list[str]:
        """All in `live` that does not fit this configuration, each with what to write instead."""
        faults = []
        try:
            self.pipeline.check_limits(live)
        except ValueError as error:
            faults.append(str(error))
        if live.max_batch_size > self.max_ongoing_requests:
            faults.append(
                f"max_batch_size: {live.max_batch_size} single images never meet in a replica with "
                f"max_ongoing_requests: {self.max_ongoing_requests}; write max_ongoing_requests: "
                f"{2 * live.max_batch_size} under args, or a smaller max_batch_size under user_config"
            )
        if live.top_k > self.pipeline.max_top_k:
            faults.append(
                f"top_k: {live.top_k} is above max_top_k: {self.pipeline.max_top_k}; write a smaller top_k under "
                f"user_config, or max_top_k: {live.top_k} under args"
            )
        if live.max_image_bytes > live.max_request_bytes:
            faults.append(
                f"max_image_bytes: {live.max_image_bytes} do not fit into max_request_bytes: {live.max_request_bytes}; "
                f"write max_request_bytes: {live.max_image_bytes} or more"
            )
        if live.max_request_bytes > live.max_bytes_in_flight:
            faults.append(
                f"max_request_bytes: {live.max_request_bytes} do not fit into max_bytes_in_flight: "
                f"{live.max_bytes_in_flight}; write max_bytes_in_flight: {live.max_request_bytes} or more"
            )
        return faults

    def fitted(self, cluster: Mapping[str, float]) -> Self:
        """This configuration with device, workers, threads and num_cpus settled for a cluster's resources.

        With a GPU, a replica gets one and the cores that come with it: all but one decode. Without, a replica has two
        cores, on each of which the model computes a batch, and a worker that takes a little of both; and replicas are
        what grows.

        Args:
            cluster: totals by Ray's names, e.g. {"CPU": 16.0, "GPU": 1.0}.
        """
        cpus, gpus = cluster.get("CPU", 1.0), cluster.get("GPU", 0.0)
        device, workers, threads = self.pipeline.device, self.pipeline.workers, self.pipeline.threads
        if device == "auto":
            device = "cuda" if gpus >= 1 else "cpu"
        if device == "cuda":
            workers = workers or max(1, math.floor(cpus / max(gpus, 1.0)) - 1)
            threads = threads or 1
            taken = workers + threads
        else:
            threads = threads or min(_CPUS_OF_A_REPLICA, math.ceil(cpus))
            taken = threads + (workers or 0)
            workers = workers or 1
        num_cpus = min(taken, cpus) if self.num_cpus is None else self.num_cpus
        pipeline = self.pipeline.model_copy(update={"device": device, "workers": workers, "threads": threads})
        return self.model_copy(update={"pipeline": pipeline, "num_cpus": num_cpus})

    @staticmethod
    def cores_of_replica(cluster: Mapping[str, float]) -> int:
        """Cores that a replica has where nothing else is written: on a GPU those that come with it, else two."""
        cpus, gpus = cluster.get("CPU", 1.0), cluster.get("GPU", 0.0)
        return max(1, math.floor(cpus / gpus)) if gpus >= 1 else min(_CPUS_OF_A_REPLICA, math.ceil(cpus))

    def fits(self, available: Mapping[str, float]) -> bool:
        """Whether there is room for one more replica of this configuration, once `fitted`.

        Args:
            available: what is free in the cluster, by Ray's names; one that is missing is used up.
        """
        return available.get("CPU", 0.0) >= (self.num_cpus or 0.0) and available.get("GPU", 0.0) >= self.num_gpus

    @property
    def num_gpus(self) -> int:
        """GPUs that Ray reserves for a replica, once `fitted`."""
        return 1 if self.pipeline.device == "cuda" else 0
