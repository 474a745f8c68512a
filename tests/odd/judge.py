"""Sends the corpus through an engine, and finds the files with a wrong answer."""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from logging.handlers import BufferingHandler

import torch
from PIL import Image
from torchvision import models

from deployments.http.statuses import STATUS_BY_ERROR
from harness.photographs import jpeg, photograph
from pipeline.config import PipelineConfig
from pipeline.decode import stage
from pipeline.engine import Engine
from pipeline.errors import ImageError
from pipeline.records import EncodedImage, Outcome, Prediction
from tests.conftest import PIPELINE
from tests.odd.odd_file import ANSWERED, OddFile
from tests.odd.seeds import CROP_PX, RESIZE_PX

GOOD = jpeg(photograph("cat"))
"""A good image in each request with odd files; its answer must be the one that it gets alone."""

CONFIG = PIPELINE.model_copy(update={"resize_px": RESIZE_PX, "crop_px": CROP_PX})
"""Small sizes, at which the model takes a quarter of its time, because the corpus is large."""

EXACT_TOLERANCE = 2e-3
"""Tolerance of a score in `decode: exact`: torch's order of additions depends on the batch."""

_REFERENCE_BATCH = 32
_AMONG = 7
_STRIDE = 389
"""Distance of neighbours in the corpus, in files, so that a request has several kinds."""


@dataclass(slots=True)
class Answers:
    """Outcomes that an engine gave to each file of a corpus."""

    alone: dict[OddFile, Outcome] = field(default_factory=dict)
    among: dict[OddFile, Outcome] = field(default_factory=dict)
    neighbours: list[Outcome] = field(default_factory=list)  # outcomes of `GOOD` in each request of many
    good: Outcome | None = None  # outcome of `GOOD` alone
    workers_lost: list[str] = field(default_factory=list)  # a line of the log for each, which says why


def ask(config: PipelineConfig, files: Sequence[OddFile], *, among: bool = True) -> Answers:
    """Send each file in a request of its own, then among others; return the outcomes."""
    answers = Answers()
    with Engine(config) as engine:
        workers, log = set(engine.worker_pids), BufferingHandler(capacity=len(files))
        stage.logger.logger.addHandler(log)
        answers.good = engine.infer([GOOD])[0]
        futures = engine.submit([EncodedImage(file.data)] for file in files)
        answers.alone = {file: future.result()[0] for file, future in zip(files, futures, strict=True)}
        if among:
            mixed = [files[n * _STRIDE % len(files)] for n in range(len(files))]
            groups = [mixed[n : n + _AMONG] for n in range(0, len(mixed), _AMONG)]
            futures = engine.submit(
                [EncodedImage(data) for data in (GOOD, *(f.data for f in group))] for group in groups
            )
            for group, future in zip(groups, futures, strict=True):
                good, *others = future.result()
                answers.neighbours.append(good)
                answers.among.update(zip(group, others, strict=True))
        stage.logger.logger.removeHandler(log)
        if workers - set(engine.worker_pids):
            answers.workers_lost = [record.getMessage() for record in log.buffer]
    return answers


def status_of(error: ImageError) -> int:
    """Return the status that a client gets."""
    return next(STATUS_BY_ERROR[cls] for cls in type(error).__mro__ if cls in STATUS_BY_ERROR)


class TorchvisionReference:
    """The scores of the files' pictures by torchvision alone, with its model and its transform."""

    def __init__(self, files: Iterable[OddFile]) -> None:
        weights = models.MobileNet_V2_Weights.IMAGENET1K_V1
        model, transform = models.mobilenet_v2(weights=weights).eval(), _preset(weights)
        pictures = {_key(file.picture): file.picture.convert("RGB") for file in files if file.picture is not None}
        self._known: dict[bytes, torch.Tensor] = {}
        known = [*pictures.items()]
        for group in (known[n : n + _REFERENCE_BATCH] for n in range(0, len(known), _REFERENCE_BATCH)):
            with torch.inference_mode():
                batch = model(torch.stack([transform(picture) for _, picture in group])).softmax(1)
            self._known.update(zip((key for key, _ in group), batch, strict=True))

    def scores(self, picture: Image.Image) -> torch.Tensor:
        """Return float32 [1000] for a picture of the corpus."""
        return self._known[_key(picture)]


def _preset(weights: models.MobileNet_V2_Weights) -> Callable[[Image.Image], torch.Tensor]:
    preset: Callable[[Image.Image], torch.Tensor] = weights.transforms(crop_size=CROP_PX, resize_size=RESIZE_PX)
    return preset


def _key(picture: Image.Image) -> bytes:
    rgb = picture.convert("RGB")
    return repr(rgb.size).encode() + hashlib.sha256(rgb.tobytes()).digest()


def scores(prediction: Prediction) -> torch.Tensor:
    """Return float32 [1000], in the order of the classes."""
    return torch.empty(1000).scatter_(
        0, torch.tensor(prediction.result.indices), torch.tensor(prediction.result.scores)
    )


def fault(file: OddFile, outcome: Outcome, mode: str, reference: TorchvisionReference) -> str:
    """Say how the answer is wrong; empty if it is right."""
    if not isinstance(outcome, Prediction):
        status, message = status_of(outcome.error), str(outcome.error)
        if status not in file.statuses:
            return f"{status} {type(outcome.error).__name__} instead of {_listed(file)}: {message}"
        if not re.search(file.says, message, re.IGNORECASE):
            return f"does not say {file.says!r}: {message}"
        return ""
    if ANSWERED not in file.statuses:
        return f"answered instead of {_listed(file)}"
    if file.picture is None:
        return ""
    off = float((scores(outcome) - reference.scores(file.picture)).abs().max())
    tolerance = EXACT_TOLERANCE if mode == "exact" else file.tolerance
    return f"a score is off by {off:.3f}; allowed are {tolerance}" if off > tolerance else ""


def _listed(file: OddFile) -> str:
    return " or ".join(map(str, file.statuses))


def kind_of(outcome: Outcome) -> str:
    """Return the class of the error, or "answered" for a prediction."""
    return "answered" if isinstance(outcome, Prediction) else type(outcome.error).__name__
