"""What an `Engine` is told: fixed at its start in `PipelineConfig`, changeable while it runs in `Limits`."""

import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, Self

from PIL import ImageColor
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

DROP_TRANSPARENCY = "drop"
"""Background that leaves out transparency as torchvision does: what is hidden under it is shown."""

MAX_ENCODED_BYTES = 64 << 20
"""Address space for one encoded image in shared memory: no limit on an image's bytes can be above it."""

MAX_RESIZED_PIXELS = 50_000_000
"""`exact` mode resizes the whole image before it crops: 1 x 20,000 pixels, 118 bytes of PNG, would take 6 GB."""

DECODE_BASE_BYTES = 256 << 20
"""What a worker may take for an image whatever its size: its file two or three times, tables, what malloc keeps."""

DECODE_BYTES_PER_PIXEL = 24
"""What it may take beyond that for each pixel that the limits allow.

By `make prices`, at the largest sizes that the limit on work allows: 10 for a JPEG, 14 for a PNG, 22 for WebP.
"""

KEPT_FREED_BYTES = 96 << 20
"""Freed memory that a worker keeps from one image to the next: a PNG of 12 megapixels leaves 87 MiB."""

CHUNKS_PER_WORKER = 2
"""Chunks handed to a worker at a time: one in work, one waiting, so that it never waits for the replica."""

BATCHES_AHEAD = 1
"""Batches a concurrent batch that may be decoded and wait for the device before no more is handed to the workers."""

WORKER_NICENESS = 5
"""By how much workers give way to the replica where both want a core.

Left equal, requests queue before its event loop while every worker works on one image at a time; so they queue before
the workers, who are handed many at once, which costs all less.
"""

WORKER_START_TIMEOUT_S = 120.0
"""A worker that has not reported for duty by then does not start."""

CLAIM_TIMEOUT_S = 3.0
"""A worker that has not begun what it was handed by then is stopped or stuck: it is ended, and nothing is blamed."""

COSTLY_PRICE_S = 0.05
"""Price from which on an image waits in a queue of its own.

Of those below, two are in hand at a time, and whoever comes waits for both: 0.1 s on the machine of the prices.
"""

MAX_CHUNK_PRICE_S = 0.04
"""Price at which what is handed to a worker at a time is full."""

USUAL_PRICE_S = 0.003
"""Price of an image whose header has not been read: that of a photograph of 0.3 megapixels."""

HANDED_OVER_AFTER_S = 0.1
"""When a worker has been at one image for so long, what waits behind it goes to another."""

STOPPED_AFTER_S = 0.1
"""A worker that has been stopped (SIGSTOP) for so long is ended: what it has in hand goes to another."""

PROBE_WHEN_IDLE_FOR_S = 2.0
"""Without an image for so long, `Engine.check` sends one of its own through the whole path."""

STALLED_AFTER_S = 8.0
"""When nothing has come through for so long, and nobody is at work on anything, the engine is declared stuck.

Likewise a device that has not answered a batch for so long, or for three times what the slowest models need.
"""

MAX_UNBLAMED_DEATHS = 3
"""Workers that end with an image next in their hands and claim that they had not begun it: then it is blamed.

A worker that an image has taken over may claim so. It would end one worker after the other, and never be rejected.
"""

MAX_FAILED_STARTS = 3
"""Workers in a row that die before they are ready, after which the loader is declared broken."""


def decode_memory_bytes(max_pixels: int) -> int:
    """The most that a worker may take for one image where images may have `max_pixels`."""
    return DECODE_BASE_BYTES + DECODE_BYTES_PER_PIXEL * max_pixels


MAX_SETTING = 1 << 53
"""The largest number of any setting: what is larger is a slip, and overflows somewhere."""

RENAMED_SETTING = "renamed_setting"
"""Type of pydantic's error for an old name of a setting."""


class StrictSettings(BaseModel):
    """A record that cannot be changed, and whose unknown keys are errors.

    Values have the type that is declared: pydantic would take `yes` for 1 and the text "8" for 8. Numbers are finite.
    Fields that are tuples need `strict=False`, as YAML has lists; what is in them is held to its type all the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    renamed: ClassVar[Mapping[str, str]] = {}  # old names of settings, and what they are called now

    @field_validator("*", mode="before")
    @classmethod
    def _is_of_a_usual_size(cls, value: object) -> object:
        if isinstance(value, int | float) and MAX_SETTING < abs(value) < math.inf:
            raise ValueError(f"a number of this setting is at most {MAX_SETTING}; write a smaller one")
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _names_the_new_setting(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuses an old name with the new one in the message, where any other unknown key has none."""
        try:
            return handler(values)
        except ValidationError as error:
            faults = error.errors()
            if not any(fault["loc"] == (old,) for fault in faults for old in cls.renamed):
                raise
            raise ValidationError.from_exception_data(error.title, [cls._told(fault) for fault in faults]) from None

    @classmethod
    def _told(cls, fault: ErrorDetails) -> InitErrorDetails:
        """The same fault for a new error, an old name with its new one."""
        told: InitErrorDetails = {"type": fault["type"], "loc": fault["loc"], "input": fault["input"]}
        if "ctx" in fault:
            told["ctx"] = fault["ctx"]
        if new := cls.renamed.get(str(fault["loc"][0]) if fault["loc"] else ""):
            told["type"] = PydanticCustomError(
                RENAMED_SETTING, "this setting is called {new} now; write {new}", {"new": new}
            )
        return told


class Limits(StrictSettings):
    """What may change while the engine runs."""

    max_batch_size: int = Field(32, ge=1, description="images the model takes at once")
    max_image_bytes: int = Field(16 << 20, ge=1, le=MAX_ENCODED_BYTES, description="encoded bytes of one image")
    max_image_pixels: int = Field(50_000_000, ge=1, description="width x height by the header, before decoding")
    max_image_work_s: float = Field(
        0.5, gt=0, description="seconds of one core that decoding an image may take, foreseen from its header"
    )


class PipelineConfig(StrictSettings):
    """The pipeline's settings. Where None stands, the machine or the weights decide.

    Sizes of the transform default to those of the weights' own `transforms()`.
    """

    renamed = {"workers": "decode_workers", "threads": "concurrent_batches"}

    model: str = Field("mobilenet_v2", description="name of a torchvision classification model")
    weights: str = Field(
        "IMAGENET1K_V1", description="torchvision weights name, or path to a file, as by torch.save or safetensors"
    )
    labels: str | None = Field(None, description="path to a text file with one class name a line")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where the model runs; auto takes a GPU where there is one, else the CPU"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "float32", description="what the model computes in; auto takes the quickest that agrees with float32"
    )
    batch_sizes: tuple[int, ...] = Field(
        (1, 2, 4, 8, 16, 32),
        strict=False,
        description="batch sizes that are warmed; on CUDA every batch is padded to one of them",
    )
    max_top_k: int = Field(100, ge=1, description="classes kept of every image, best first")

    decode_workers: int | None = Field(None, ge=1, description="processes that decode and transform images")
    spare_workers: int = Field(
        1, ge=0, description="processes that stand ready beside them: while an image takes long or a worker has died"
    )
    concurrent_batches: int | None = Field(
        None, ge=1, description="batches that the CPU computes at a time, a thread each"
    )
    chunk_bytes: int = Field(
        1 << 20, ge=1, description="encoded bytes at which what is handed to a worker at a time is full; about 20 ms"
    )
    decode_timeout_s: float = Field(
        10.0, gt=0, description="an image that takes longer by the clock ends its worker, whatever its work"
    )
    slots: int = Field(256, ge=1, le=8192, description="images in shared memory between decoding and the device")

    formats: tuple[Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF", "HEIF"], ...] = Field(
        ("JPEG", "PNG", "WEBP"),
        strict=False,
        description="formats that are decoded, told by a file's first bytes; no other is",
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
        None, strict=False, description="what the differences are divided by"
    )

    @field_validator("background")
    @classmethod
    def _is_a_colour(cls, background: str) -> str:
        if background != DROP_TRANSPARENCY:
            try:
                ImageColor.getrgb(background)
            except ValueError as error:
                raise ValueError(
                    f"{background} is no colour; write one like white or '#ffffff', or {DROP_TRANSPARENCY}"
                ) from error
        return background

    @field_validator("formats")
    @classmethod
    def _have_decoders(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        if "HEIF" in formats and not find_spec("pillow_heif"):
            raise ValueError("HEIF needs pillow-heif, which is not installed; type pip install 'darkroom[heif]'")
        return formats

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if not self.batch_sizes or list(self.batch_sizes) != sorted(set(self.batch_sizes)) or self.batch_sizes[0] < 1:
            raise ValueError(f"batch_sizes: {list(self.batch_sizes)} must rise from 1 or more, e.g. [1, 2, 4, 8]")
        if not self.formats:
            raise ValueError("formats: [] serves nothing; write at least one, e.g. [JPEG]")
        if self.slots < 2 * self.largest_batch:
            raise ValueError(
                f"slots: {self.slots} do not hold two batches of {self.largest_batch}, one in the device and one "
                f"decoded behind it; write slots: {2 * self.largest_batch} or more, or smaller batch_sizes"
            )
        if self.resize_px and self.crop_px and self.crop_px > self.resize_px:
            raise ValueError(f"crop_px: {self.crop_px} is larger than resize_px: {self.resize_px}; write it smaller")
        if self.std and min(self.std) <= 0:
            raise ValueError(f"std: {list(self.std)} divides; every number must be above 0")
        return self

    @property
    def largest_batch(self) -> int:
        """The most images that a batch can have."""
        return self.batch_sizes[-1]

    def check_limits(self, limits: Limits) -> None:
        """Raises ValueError where `limits` ask for more than this configuration has set up."""
        if limits.max_batch_size > self.largest_batch:
            raise ValueError(
                f"max_batch_size: {limits.max_batch_size} is above the largest of batch_sizes, {self.largest_batch}; "
                f"write max_batch_size: {self.largest_batch} or less, or add {limits.max_batch_size} to batch_sizes"
            )
