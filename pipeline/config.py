"""Settings of an `Engine` that are fixed at its start. `Limits` may change while it runs."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final, Literal, Self

from PIL import ImageColor
from pydantic import Field, ValidationInfo, field_validator, model_validator

from pipeline.live_limits import Limits
from pipeline.model.source_kind import SourceKind, source_kind
from pipeline.pinned_file import PinnedFile
from pipeline.strict_settings import StrictSettings

__all__ = ["DROP_TRANSPARENCY", "HEAD_PARAMETERS", "Limits", "PipelineConfig"]

DROP_TRANSPARENCY = "drop"
"""Background that ignores transparency, as torchvision does: the colours of transparent pixels show."""

HEAD_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "classify": ("top_k",),
    "multilabel": ("threshold",),
    "embed": ("encoding",),
    "detect": ("score_threshold",),
    "segment": (),
}
"""Heads that a configuration may name, each with the parameters that a request may send."""

_NOT_OF_FUNCTIONS: Final = ("weights", "labels", "resize_px", "crop_px", "interpolation", "mean", "std")
"""Settings of models that are served by name."""


class PipelineConfig(StrictSettings):
    """Settings of the pipeline. None leaves a setting to the machine or to the weights.

    Sizes of the transform default to those of the weights' own `transforms()`.
    """

    renamed = {"workers": "decode_workers", "threads": "concurrent_batches"}  # noqa: RUF012 - a ClassVar of its base

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
    runtime: Literal["auto", "torch", "openvino", "compile"] = Field(
        "auto", description="library that computes the model; auto takes the quickest that agrees with torch"
    )
    batch_sizes: tuple[int, ...] = Field(
        (1, 2, 4, 8, 16, 32),
        strict=False,
        description="batch sizes that are warmed; on CUDA every batch is padded to one of them",
    )
    max_top_k: int = Field(100, ge=1, description="classes kept of every image, best first (head: classify)")

    decode_workers: int | None = Field(None, ge=1, description="processes that decode and transform images")
    spare_workers: int | None = Field(
        None,
        ge=0,
        description="further processes that stand in for slow or dead ones, and help while the model has no images",
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
