"""Limits on the size and cost of an image, checked by its header before it is decoded.

The replica checks before it admits an image. A worker checks again: of its job it only uses the bytes and the limits.
"""

from pipeline.bounds import MAX_RESIZED_PIXELS
from pipeline.errors import ImageTooCostly, TooManyPixels
from pipeline.images.cost import cost_s
from pipeline.images.geometry import target_size
from pipeline.images.header import MAX_COUNTED_CHUNKS, Header
from pipeline.images.jpeg_scans import MAX_SCANS
from pipeline.records import WorkerTransform


def check_image(header: Header, transform: WorkerTransform, max_pixels: int, max_work_s: float) -> float:
    """Return the cost of an image: seconds of one core.

    Args:
        header: header of the image.
        transform: resize and crop that follow the decoding.
        max_pixels: limit on width x height.
        max_work_s: limit on the cost.

    Raises:
        TooManyPixels, ImageTooCostly: the image is over a limit.
    """
    _check_pixels(header.width, header.height, transform, max_pixels)
    if header.scans > MAX_SCANS:
        raise ImageTooCostly(
            f"the JPEG has more than {MAX_SCANS} scans, the limit; programs write about 10: save it as a baseline JPEG"
        )
    if header.chunks >= MAX_COUNTED_CHUNKS:
        raise ImageTooCostly(
            f"the {header.format} consists of {MAX_COUNTED_CHUNKS} chunks or more; the limit is "
            f"{MAX_COUNTED_CHUNKS - 1}: save it again, without its metadata"
        )
    cost = cost_s(header, transform)
    if cost > max_work_s:
        raise ImageTooCostly(
            f"decoding {_described(header)} would take {cost:.2f} s of a processor core; the limit is "
            f"{max_work_s:g} s (max_image_work_s): send it with fewer pixels{_or_simpler(header)}"
        )
    return cost


def _check_pixels(width: int, height: int, transform: WorkerTransform, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooManyPixels(
            f"the image has {width} x {height} = {width * height} pixels; the limit is {max_pixels} (max_image_pixels)"
        )
    across, down = target_size(width, height, transform)
    if transform.decode == "exact" and across * down > MAX_RESIZED_PIXELS:
        raise TooManyPixels(
            f"the image has {width} x {height} pixels and would have {across} x {down} = {across * down} once it is "
            f"resized; the limit is {MAX_RESIZED_PIXELS}"
        )


def _described(header: Header) -> str:
    """Describe an image, e.g. "a PNG of 7000 x 7000 pixels, 4 channels of 16 bits, interlaced"."""
    parts = [
        f"a {header.format} of {header.width} x {header.height} pixels",
        f"{header.channels} channel{'s' * (header.channels > 1)}",
    ]
    if header.bit_depth != 8:
        parts[-1] += f" of {header.bit_depth} bits"
    if header.coding not in ("", "plain"):
        parts.append(header.coding)
    if header.scans > 1:
        parts.append(f"{header.scans} scans")
    return ", ".join(parts)


def _or_simpler(header: Header) -> str:
    if header.format != "JPEG":
        return ", or as a JPEG"
    return "" if header.coding == "baseline" and header.scans == 1 else ", or as a baseline JPEG"
