"""Memory of the machine, and the share of it that a replica may take."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from deployments.live_config import LiveConfig
from pipeline.bounds import decode_memory_bytes
from pipeline.decode.slots import MAX_KEPT_BYTES
from pipeline.model.device_kind import resolved_spares
from tuning.replica_settings import Settings

MAX_USED_SHARE: Final = 0.9
"""Share of the available memory that a replica may take."""

_CGROUPS: Final = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
"""Limit and use, in the two versions of the kernel's interface."""


def available_bytes(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Read the available memory of the machine, or of its container if that has less."""
    available = psutil.virtual_memory().available
    for limit, used in _CGROUPS:
        with suppress(OSError, ValueError):  # no container, or "max"
            available = min(available, int((root / limit).read_text()) - int((root / used).read_text()))
    return max(0, available)


@dataclass(frozen=True, slots=True)
class ReplicaMemory:
    """Available memory, and the memory that a replica takes whatever its settings are.

    Args:
        available_bytes: available memory.
        replica_bytes: memory of an idle replica process with the model.
        worker_bytes: memory of a worker; an image as large as the limits allow may take more.
        input_bytes: bytes of the model's input for one image.
        live: the limits of images; those of the settings count where they have them too.
        spare_workers: number of spare workers; None if it follows from the settings.
    """

    available_bytes: int
    replica_bytes: int
    worker_bytes: int
    input_bytes: int
    live: LiveConfig
    spare_workers: int | None = None

    def needed_bytes(self, settings: Settings) -> int:
        """Compute the most memory that a replica takes with these settings."""
        spares = resolved_spares(self.spare_workers, settings.decode_workers, settings.concurrent_batches)
        processes = settings.decode_workers + spares
        workers = processes * (self.worker_bytes + decode_memory_bytes(self.live.max_image_pixels))
        slots = settings.slots * self.input_bytes + MAX_KEPT_BYTES
        return self.replica_bytes + workers + slots + settings.max_bytes_in_flight

    def holds(self, settings: Settings) -> bool:
        """Return whether the machine has the memory that the settings need, with some to spare."""
        return self.needed_bytes(settings) <= MAX_USED_SHARE * self.available_bytes
