"""Settings of an `Engine`: `PipelineConfig` is fixed at its start, `Limits` may change while it runs."""

import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar, Final, Literal, Self

from PIL import ImageColor
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from pipeline.model.source_kind import SourceKind, source_kind
from pipeline.pinned_file import PinnedFile

DROP_TRANSPARENCY = "drop"
"""Background that ignores transparency, as torchvision does: the colours of transparent pixels show."""

MAX_ENCODED_BYTES = 64 << 20
"""Address space for one encoded image in shared memory, and so the highest possible `max_image_bytes`."""

MAX_RESIZED_PIXELS = 50_000_000
"""Most pixels of a resized image in `exact` mode, which resizes the whole image before it crops.

Without this limit a PNG of 1 x 20,000 pixels (118 bytes) would take 6 GB.
"""

DECODE_BASE_BYTES = 256 << 20
"""Memory that a worker may use for an image of any size: two or three copies of the file, tables, malloc's reserve."""

DECODE_BYTES_PER_PIXEL = 24
"""Memory that a worker may use in addition, for each pixel of the largest image that the limits allow.

Measured by `make prices` at the largest sizes that the limit on work allows: 10 for a JPEG, 14 for a PNG, 22 for WebP.
"""

KEPT_FREED_BYTES = 96 << 20
"""Freed memory that a worker keeps from one image to the next: a PNG of 12 megapixels leaves 87 MiB."""

CHUNKS_PER_WORKER = 2
"""Chunks that a worker holds at a time: one in work and one waiting, so that a worker never waits for the replica."""

BATCHES_AHEAD = 1
"""Decoded batches that may wait for the device, for each concurrent batch; then the workers get no more images."""

WORKER_NICENESS = 5
"""Niceness of the workers: the replica runs first where both want a core.

With equal priority, requests queue before the replica's event loop while every worker decodes one image at a time. With
this niceness, images queue before the workers instead, which then get many at once, and all of them cost less.
"""

WORKER_START_TIMEOUT_S = 120.0
"""Time that a worker has to report that it is ready; after that its start has failed."""

CLAIM_TIMEOUT_S = 3.0
"""Time that a worker has to begin an image that it holds; then the worker is ended, and no image is blamed."""

COSTLY_PRICE_S = 0.05
"""Lowest price of an image that waits in the queue of costly images.

A worker may hold two cheaper images, and a new image waits for both: 0.1 s on the machine that prices come from.
"""

MAX_CHUNK_PRICE_S = 0.04
"""Price at which a chunk, the images handed to a worker together, is full."""

USUAL_PRICE_S = 0.003
"""Price of an image whose header has not been read: that of a photograph of 0.3 megapixels."""

USUAL_PIXELS = 300_000
"""Pixels of such an image."""

HANDED_OVER_AFTER_S = 0.1
"""Time that a worker may spend on one image before the images behind it go to another worker."""

STOPPED_AFTER_S = 0.1
"""Time after which a stopped worker (SIGSTOP) is ended, and its images go to another worker."""

PROBE_WHEN_IDLE_FOR_S = 2.0
"""Time without a finished image after which `Engine.check` sends a test image through the whole path."""

STALLED_AFTER_S = 8.0
"""Time without a finished image after which the engine counts as stalled, if no image is in work.

A device counts as stalled if it has not answered a batch for this time, or for the time that its warm-up took if that
was longer.
"""

MAX_UNBLAMED_DEATHS = 3
"""Workers that may end while they hold an image and claim that they had begun none; then the image is blamed.

A worker that an image has taken over may claim so. That image would end one worker after the other, and never be
rejected.
"""

MAX_FAILED_STARTS = 3
"""Workers in a row that end before they are ready, after which the decode stage fails."""

FETCH_STALLED_AFTER_S = 60.0
"""Time without a new byte of a file of weights after which fetching it has failed."""

FETCH_TIMEOUT_S = 3600.0
"""The longest that fetching a file of weights may take, waiting for another replica that fetches it included."""


def decode_memory_bytes(max_pixels: int) -> int:
    """Return the most memory, in bytes, that a worker may use for an image of at most `max_pixels`."""
    return DECODE_BASE_BYTES + DECODE_BYTES_PER_PIXEL * max_pixels


MAX_SETTING = 1 << 53
"""The largest number of any setting: a larger one is a slip, and overflows somewhere."""

HEAD_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "classify": ("top_k",),
    "multilabel": ("threshold",),
    "embed": ("encoding",),
    "detect": ("score_threshold",),
    "segment": (),
}
"""Heads that a configuration may name, each with the parameters that a request may send."""

RENAMED_SETTING = "renamed_setting"
"""Type of pydantic's error for an old name of a setting."""


class StrictSettings(BaseModel):
    """Base of all settings: immutable, with declared types, and without unknown keys.

    Types are strict, since pydantic would otherwise take `yes` for 1 and the text "8" for 8. Numbers are finite. Fields
    that are tuples need `strict=False`, as YAML has lists; the types of their items are checked all the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    renamed: ClassVar[Mapping[str, str]] = {}  # old name of a setting -> new name

    @field_validator("*", mode="before")
    @classmethod
    def _is_of_a_usual_size(cls, value: object) -> object:
        if isinstance(value, int | float) and MAX_SETTING < abs(value) < math.inf:
            raise ValueError(f"a number in the settings is at most {MAX_SETTING}; write a smaller one")
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _names_the_new_setting(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Name the new setting in the error about an old one; errors about other unknown keys stay as they are."""
        try:
            return handler(values)
        except ValidationError as error:
            faults = error.errors()
            if not any(fault["loc"] == (old,) for fault in faults for old in cls.renamed):
                raise
            raise ValidationError.from_exception_data(
                error.title, [cls._with_new_name(fault) for fault in faults]
            ) from None

    @classmethod
    def _with_new_name(cls, fault: ErrorDetails) -> InitErrorDetails:
        """Copy a fault for a new error; the fault of an old name tells the new one."""
        details: InitErrorDetails = {"type": fault["type"], "loc": fault["loc"], "input": fault["input"]}
        if "ctx" in fault:
            details["ctx"] = fault["ctx"]
        if new := cls.renamed.get(str(fault["loc"][0]) if fault["loc"] else ""):
            details["type"] = PydanticCustomError(
                RENAMED_SETTING, "this setting is called {new} now; write {new}", {"new": new}
            )
        return details


_NOT_OF_FUNCTIONS: Final = ("weights", "labels", "resize_px", "crop_px", "interpolation", "mean", "std")
"""Settings of models that are served by name."""


class Limits(StrictSettings):
    """Limits that may change while the engine runs."""

    max_batch_size: int = Field(32, ge=1, description="images the model takes at once")
    max_image_bytes: int = Field(16 << 20, ge=1, le=MAX_ENCODED_BYTES, description="encoded bytes of one image")
    max_image_pixels: int = Field(50_000_000, ge=1, description="width x height by the header, before decoding")
    max_image_work_s: float = Field(
        0.5, gt=0, description="seconds of one core that decoding an image may take, estimated from its header"
    )


class PipelineConfig(StrictSettings):
    """Settings of the pipeline. None leaves a setting to the machine or to the weights.

    Sizes of the transform default to those of the weights' own `transforms()`.
    """

    renamed = {"workers": "decode_workers", "threads": "concurrent_batches"}

    model: str = Field(
        "mobilenet_v2",
        description="name of a torchvision model, timm:NAME, path or URL of a model file, or module:function",
    )
    weights: str = Field(
        "IMAGENET1K_V1",
        description="torchvision weights name, or path or URL of a file, as by torch.save or safetensors",
    )
    model_args: Mapping[str, Any] = Field({}, description="arguments of the function that `model` names, by name")
    labels: str | None = Field(None, description="path to a text file with one class name a line")
    head: Literal["classify", "multilabel", "embed", "detect", "segment"] | None = Field(
        None, description="form of the answers; by default what the model was made for"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where the model runs; auto takes a GPU where there is one, else the CPU"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "float32", description="what the model computes in; auto takes the quickest that agrees with float32"
    )
    runtime: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="library that computes the model; auto takes the quickest that agrees with torch"
    )
    batch_sizes: tuple[int, ...] = Field(
        (1, 2, 4, 8, 16, 32),
        strict=False,
        description="batch sizes that are warmed; on CUDA every batch is padded to one of them",
    )
    max_top_k: int = Field(100, ge=1, description="classes kept of every image, best first (head: classify)")

    decode_workers: int | None = Field(None, ge=1, description="processes that decode and transform images")
    spare_workers: int = Field(
        1, ge=0, description="further processes that stand in while an image takes long or a worker has died"
    )
    concurrent_batches: int | None = Field(
        None, ge=1, description="batches that the CPU computes at a time, each in a thread"
    )
    chunk_bytes: int = Field(
        1 << 20, ge=1, description="encoded bytes at which a chunk, handed to a worker at once, is full; about 20 ms"
    )
    decode_timeout_s: float = Field(
        10.0, gt=0, description="the longest that decoding an image may take; then it is ended with its worker"
    )
    slots: int = Field(256, ge=1, le=8192, description="images in shared memory between decoding and the device")

    formats: tuple[Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF", "HEIF"], ...] = Field(
        ("JPEG", "PNG", "WEBP"),
        strict=False,
        description="formats that are decoded; the first bytes of a file tell its format",
    )
    background: str = Field(
        "white", description="colour that transparent pixels are laid on; drop shows what lies under transparency"
    )
    decode: Literal["fast", "exact"] = Field("fast", description="fast lets large JPEGs decode at 1/2 size or less")
    resize_px: int | None = Field(None, ge=1, description="shorter side after the resize")
    crop_px: int | None = Field(None, ge=1, description="side of the centre crop that the model sees")
    interpolation: Literal["bilinear", "bicubic", "nearest", "lanczos"] | None = Field(
        None, description="how the resize computes a pixel from those around it"
    )
    mean: tuple[float, float, float] | None = Field(
        None, strict=False, description="subtracted from red, green and blue in 0..1 before the model sees them"
    )
    std: tuple[float, float, float] | None = Field(
        None, strict=False, description="divides red, green and blue after mean is subtracted"
    )

    @field_validator("model", "weights")
    @classmethod
    def _is_pinned_if_remote(cls, name: str, info: ValidationInfo) -> str:
        PinnedFile.named(name, str(info.field_name))
        return name

    @field_validator("background")
    @classmethod
    def _is_a_colour(cls, background: str) -> str:
        if background != DROP_TRANSPARENCY:
            try:
                ImageColor.getrgb(background)
            except ValueError as error:
                raise ValueError(
                    f"{background} is not a colour; write one like white or '#ffffff', or {DROP_TRANSPARENCY}"
                ) from error
        return background

    @field_validator("formats")
    @classmethod
    def _have_decoders(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        if "HEIF" in formats and not find_spec("pillow_heif"):
            raise ValueError("HEIF needs pillow-heif, which is not installed; type pip install 'darkroom[heif]'")
        return formats

    @field_validator("runtime")
    @classmethod
    def _is_installed(cls, runtime: str) -> str:
        if runtime == "openvino" and not find_spec("openvino"):
            raise ValueError("runtime: openvino is not installed; type pip install 'darkroom[openvino]'")
        return runtime

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if not self.batch_sizes or list(self.batch_sizes) != sorted(set(self.batch_sizes)) or self.batch_sizes[0] < 1:
            raise ValueError(f"batch_sizes: {list(self.batch_sizes)} must rise from 1 or more, e.g. [1, 2, 4, 8]")
        if not self.formats:
            raise ValueError("formats: [] is empty; write at least one, e.g. [JPEG]")
        if self.slots < 2 * self.largest_batch:
            raise ValueError(
                f"slots: {self.slots} do not hold two batches of {self.largest_batch}, one in the device and one "
                f"decoded behind it; write slots: {2 * self.largest_batch} or more, or smaller batch_sizes"
            )
        if self.resize_px and self.crop_px and self.crop_px > self.resize_px:
            raise ValueError(f"crop_px: {self.crop_px} is larger than resize_px: {self.resize_px}; write it smaller")
        self._check_source()
        if self.head not in (None, "classify") and "max_top_k" in self.model_fields_set:
            raise ValueError(f"max_top_k: {self.max_top_k} is for head: classify; remove it, as head is {self.head}")
        if self.head == "embed" and self.labels:
            raise ValueError(f"labels: {self.labels} are names of classes; remove them, as head: embed has no classes")
        if self.std and min(self.std) <= 0:
            raise ValueError(f"std: {list(self.std)} must be above 0: pixels are divided by every number")
        return self

    def _check_source(self) -> None:
        """Raise ValueError for a setting that the model's source does not have."""
        kind = source_kind(self.model)
        if kind is SourceKind.FUNCTION:
            if given := [name for name in _NOT_OF_FUNCTIONS if name in self.model_fields_set and getattr(self, name)]:
                raise ValueError(
                    f"{given[0]}: {getattr(self, given[0])} is not for model: {self.model}, a function of your own, "
                    f"which decides that itself; remove it, or give it to the function by model_args"
                )
        elif self.model_args:
            raise ValueError(
                f"model_args: {[*self.model_args]} are for a function of your own; model: {self.model} is none: write "
                "module:function, or remove model_args"
            )

    @property
    def largest_batch(self) -> int:
        """Largest of `batch_sizes`, in images."""
        return self.batch_sizes[-1]

    def check_limits(self, limits: Limits) -> None:
        """Raise ValueError if `limits` allow more than this configuration provides for."""
        if limits.max_batch_size > self.largest_batch:
            raise ValueError(
                f"max_batch_size: {limits.max_batch_size} is above the largest of batch_sizes, {self.largest_batch}; "
                f"write max_batch_size: {self.largest_batch} or less, or add {limits.max_batch_size} to batch_sizes"
            )
