"""One machine of a Ray cluster, as far as replicas are sized by it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """Logical CPUs and GPUs of one node, by Ray's count: all that it has, or what of it is free."""

    cpus: float
    gpus: float = 0.0

    def holds(self, cpus: float, gpus: float) -> bool:
        """Whether it has so many of both."""
        return self.cpus >= cpus and self.gpus >= gpus
