"""Builds the model of an application as a start does, without serving, and describes what was built."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import torch
from torch import nn

from deployments.http.responses import described as described_error
from deployments.live_config import LiveConfig
from pipeline.config import PipelineConfig
from pipeline.engine import Engine
from pipeline.errors import InvalidModel
from pipeline.model.callable_transform import tried
from pipeline.model.head_fit import described
from pipeline.model.recognition import on_fast_path
from pipeline.model.resize_to_fit import Fit
from pipeline.model.served import Head, ServedModel
from pipeline.model.source import load_model
from pipeline.records import Rejection
from pipeline.result import Result, as_text

_BATCH_SIZES: Final = (1, 2)
"""Batch sizes of the check: a module for a single image would fail with two."""

_SLOTS: Final = 8
_SHOWN_LABELS: Final = 3

Row = tuple[str, str]
"""Title and text."""


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """Description of a model that was built, and of its answer to one image.

    Attributes:
        rows: title and text of each fact.
        failed: whether the image has no prediction.
    """

    rows: Sequence[Row]
    failed: bool = False


def check_model(
    config: PipelineConfig, live: LiveConfig, image: bytes | None, tell: Callable[[str], None]
) -> ModelCheck:
    """Build a model, send test images through the whole path, and label an image.

    Args:
        config: settings of the model and its preparation; one worker and small batches suffice here.
        live: limits on images, and the usual values of the head's parameters.
        image: an encoded image; None for none.
        tell: called with each step that begins.

    Raises:
        ServerError: the model cannot be served.
    """
    config, notes = _on_this_machine(config)
    limits = live.model_copy(update={"max_batch_size": _BATCH_SIZES[-1]})
    with _Warnings() as warnings, ExitStack() as stack:
        tell(f"loading {config.model}")
        served = on_fast_path(load_model(config), config.decode)
        served = replace(served, transform=tried(served.transform))
        seen = _Seen(served.module)
        tell(f"sending test images through {config.model}")
        engine = stack.enter_context(Engine(config, limits, model=served))
        if faults := live.head_faults(engine.head.parameters, type(engine.head).__name__):
            raise InvalidModel(f"user_config: {'; '.join(faults)}")
        rows = [*notes, *warnings.rows, *_facts(config, served, engine, seen)]
        return _with_answer(rows, engine, live, image)


def _with_answer(rows: list[Row], engine: Engine, live: LiveConfig, image: bytes | None) -> ModelCheck:
    """Label the image, if there is one, and add its answer to the facts."""
    if image is None:
        return ModelCheck(rows)
    (outcome,) = engine.infer([image])
    if isinstance(outcome, Rejection):
        problem = described_error(outcome.error)
        return ModelCheck([*rows, ("answer", f"none. {problem['title']}: {problem['detail']}")], failed=True)
    return ModelCheck([*rows, ("answer", "\n".join(_lines(outcome.result, engine.head, live)))])


def _on_this_machine(config: PipelineConfig) -> tuple[PipelineConfig, list[Row]]:
    """Reduce a configuration to one worker and small batches; without a GPU, the CPU stands in."""
    small = {"batch_sizes": _BATCH_SIZES, "decode_workers": 1, "spare_workers": 0, "concurrent_batches": 1}
    config = config.model_copy(update={**small, "slots": _SLOTS})
    if config.device != "cuda" or torch.cuda.is_available():
        return config, []
    stand_in = config.model_copy(update={"device": "cpu", "dtype": "float32"})
    return stand_in, [("device", "no GPU here: checked on the CPU in float32, which stands in for device: cuda")]


class _Warnings(logging.Handler):
    """Collects the warnings of the pipeline in a block, which otherwise appear beside the table."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.rows = list[Row]()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning, unless a row of the table says the same."""
        if record.levelno == logging.WARNING and record.msg != "transform: %s, from %s":
            self.rows.append(("warning", record.getMessage()))

    def __enter__(self) -> Self:
        logging.getLogger("pipeline").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("pipeline").removeHandler(self)


class _Seen:
    """Records input and output of a module at its first call.

    Args:
        module: a module that has not been called yet.
    """

    def __init__(self, module: nn.Module) -> None:
        self.inputs = self.outputs = "not seen"
        self._hook = module.register_forward_hook(self._note)

    def _note(self, _: nn.Module, arguments: tuple[Any, ...], outputs: Any) -> None:
        self._hook.remove()
        self.inputs = ", ".join(map(described, arguments))
        self.outputs = described(outputs)


def _facts(config: PipelineConfig, served: ServedModel, engine: Engine, seen: _Seen) -> Iterator[Row]:
    weights = "" if engine.weights_from == config.model else f", with weights from {engine.weights_from}"
    yield "model", f"{config.model}{weights}"
    yield "parameters", _size(served.module)
    yield "transform", f"{served.transform}\nfrom {served.transform_from}"
    fit = served.transform if isinstance(served.transform, Fit) else None
    yield "workers make", fit.described_input(config) if fit else str(engine.input_spec)
    yield "module", f"{seen.inputs} -> {seen.outputs}"
    yield "head", _described_head(engine.head)
    yield "computed as", f"{engine.computed_as.way}, in {engine.dtype} on {engine.device_kind}"
    if engine.computed_as.trials:
        yield "compared", "\n".join(map(str, engine.computed_as.trials))
    yield "start", ", ".join(f"{step} {seconds:.1f} s" for step, seconds in engine.start_s.items())


def _size(module: nn.Module) -> str:
    parameters = [*module.parameters()]
    if not parameters:
        return "none that torch knows"
    tensors = [*parameters, *module.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return f"{sum(tensor.numel() for tensor in parameters):,}, in {_in_bytes(size)} with buffers"


def _in_bytes(size: int) -> str:
    if size < 1000:
        return f"{size} bytes"
    power = min(3, int(math.log10(size) // 3))
    return f"{size / 1000**power:.1f} {('kB', 'MB', 'GB')[power - 1]}"


def _described_head(head: Head) -> str:
    parts = [type(head).__name__]
    if head.labels:
        first = ", ".join(head.labels[:_SHOWN_LABELS])
        parts.append(f"{len(head.labels)} labels ({first}{', ...' if len(head.labels) > _SHOWN_LABELS else ''})")
    parts += [f"{name}: {each.default}, {each.allowed}" for name, each in head.parameters.items()]
    return "; ".join(parts)


def _lines(result: Any, head: Head, live: LiveConfig) -> list[str]:
    parameters = live.of_head(head.parameters)
    return result.lines(**parameters) if isinstance(result, Result) else [as_text(result)]
