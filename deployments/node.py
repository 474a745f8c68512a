"""One machine of a Ray cluster, with the resources that matter for the size of replicas."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """Logical CPUs and GPUs of one node as Ray counts them: all of them, or the free ones."""

    cpus: float
    gpus: float = 0.0

    def holds(self, cpus: float, gpus: float) -> bool:
        """Return whether the node has at least this many of both."""
        return self.cpus >= cpus and self.gpus >= gpus
