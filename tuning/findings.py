"""All that a run has found, as far as it has come: what its report is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tuning.capacity import Cell, Costs
from tuning.check import Seen
from tuning.choice import Sizes
from tuning.fits import BatchCost, Scaling
from tuning.settings import Settings


@dataclass(slots=True)
class Findings:
    """Filled from top to bottom; what is not there yet is None or empty."""

    command: str
    date: str
    bound_s: float
    seed: int
    machine: Sequence[str] = ()  # a line each
    model: str = ""
    images: int = 0  # of the sample
    unreadable: Sequence[str] = ()  # files that were left out, and why
    sizes: Sizes | None = None
    costs: Costs | None = None
    cells: Sequence[Cell] = ()
    too_large: Sequence[str] = ()  # settings that the machine's memory does not hold
    predicted: Settings | None = None
    peak: float = 0.0  # answers a second of the running service, as predicted
    seen: list[Seen] = field(default_factory=list)  # the prediction and its neighbours, when more came than fits
    chosen: Settings | None = None
    ladder: list[Seen] = field(default_factory=list)  # the chosen settings, as more and more came
    verdict: str = ""  # the service's own
    advice: Sequence[str] = ()  # what is the bottleneck, and what would change it
    diff: str = ""  # of the configuration
    stopped: str = ""  # why it has ended early

    @property
    def scaling(self) -> Scaling | None:
        """The law that decoding follows, once there are two numbers of workers."""
        return self.costs.decode.scaling if self.costs and self.costs.decode.rates else None

    @property
    def batch_costs(self) -> dict[int, BatchCost]:
        """What batches cost, by lanes."""
        return self.costs.compute.fits() if self.costs and self.costs.compute.batches else {}
