"""Limits on images and batches, which may change while an engine runs."""

from pydantic import Field

from pipeline.bounds import MAX_ENCODED_BYTES
from pipeline.strict_settings import StrictSettings


class Limits(StrictSettings):
    """Limits that may change while the engine runs."""

    max_batch_size: int = Field(32, ge=1, description="images the model takes at once")
    max_image_bytes: int = Field(16 << 20, ge=1, le=MAX_ENCODED_BYTES, description="encoded bytes of one image")
    max_image_pixels: int = Field(50_000_000, ge=1, description="width x height by the header, before decoding")
    max_image_work_s: float = Field(
        0.5, gt=0, description="seconds of one core that decoding an image may take, estimated from its header"
    )
