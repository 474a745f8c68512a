"""Steps of a run on a GPU machine, the most valuable first, each with the seconds that it may take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

BUDGET_S: Final = 480.0
"""Seconds that a whole run may take."""

DRY_BUDGET_S: Final = 300.0
"""Seconds that a dry run may take; it takes about three minutes on two cores."""

MIN_STEP_S: Final = 10.0
"""Least time to begin a step: in less it could only load torch."""


@dataclass(frozen=True, slots=True)
class GpuStep:
    """Parts that run one after another in a process of their own.

    Args:
        name: name for `--only`.
        limit_s: time limit in seconds.
        parts: names in `part.PARTS`.
        shows: subject of its figures, for `--help`.
    """

    name: str
    limit_s: float
    parts: tuple[str, ...]
    shows: str


STEPS: Final = (
    GpuStep("facts", 40, ("facts",), "GPU, processor, memory, versions, and what Ray makes of them"),
    GpuStep("ceilings", 75, ("decoding", "main_models"), "images a second that the cores decode and the GPU computes"),
    GpuStep("comparison", 120, ("comparison",), "32 images by a loop, a DataLoader per batch, and the engine"),
    GpuStep("tests", 150, ("tests",), "the tests of the code for CUDA, none of them skipped"),
    GpuStep("http", 60, ("http",), "the limit of the service: the cores divided by decoding and HTTP"),
    GpuStep("service", 240, ("service",), "the service: shipped, ResNet-50, replicas a GPU, images a request, sizes"),
    GpuStep("kinds", 120, ("kinds",), "models of several kinds in the engine, and their answers against the CPU's"),
    GpuStep("copies", 40, ("waiting", "copies"), "what waiting for the GPU and copies to it cost"),
    GpuStep("launch", 30, ("launching",), "what launching a model costs beside a busy interpreter"),
    GpuStep("search", 60, ("search",), "what cuDNN's search for kernels costs and gains"),
    GpuStep("models", 110, ("models",), "images a second by model, number format, batch size and way of computing"),
    GpuStep("sharing", 80, ("sharing",), "several processes on one GPU"),
    GpuStep("nvjpeg", 30, ("nvjpeg",), "JPEGs decoded by the GPU"),
    GpuStep("compile", 150, ("compiling",), "what torch.compile gains"),
)

STEP_NAMES: Final = tuple(step.name for step in STEPS)


def chosen(only: Sequence[str]) -> list[GpuStep]:
    """Select steps by name, in the order of the plan; all without names."""
    return [step for step in STEPS if not only or step.name in only]
