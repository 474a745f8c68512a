"""Parts that replace those of a peer where the environment asks for it; importable in every peer's environment.

`MODEL=stand-in`: a model that sleeps, as for every server compared. `DECODE=darkroom`: Darkroom's own transform, so
that what is compared is the way of an image around it. Without that nothing of Darkroom's is imported: its decoder
takes away Pillow's own limit on pixels, having one of its own.
"""

import os
import time
from typing import Any, Final

STAND_IN: Final = os.environ.get("MODEL") == "stand-in"
DARKROOM_DECODES: Final = os.environ.get("DECODE") == "darkroom"

STAND_IN_BATCH_S: Final = 0.002
STAND_IN_IMAGE_S: Final = 0.0001
"""Seconds of the stand-in for a batch, and for each of its images."""

if DARKROOM_DECODES:  # as in Darkroom's own workers
    import torch

    from pipeline.decode.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(1)


def stand_in(images: int) -> list[int]:
    """Return a class an image, after as long as the stand-in takes."""
    time.sleep(STAND_IN_BATCH_S + images * STAND_IN_IMAGE_S)
    return [0] * images


def our_pixels(data: bytes) -> Any:
    """Decode an image -> uint8 [224, 224, 3]."""
    from benchmarks.limit import TRANSFORM
    from pipeline.images.decode import decode
    from pipeline.live_limits import Limits

    return decode(memoryview(data), TRANSFORM, Limits().max_image_pixels)
