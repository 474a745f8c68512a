"""The cost of an image: seconds of one core that decoding and resizing should take, estimated from its header.

`make costs` compares costs with measured times, also of files that are costly on purpose
(`harness/costly_images.py`), on a machine like the one that the figures below are from. On another machine the ratio of
time to cost differs, but is much the same for all kinds of images: to get seconds, costs are multiplied by the ratio
measured on recent images.

A cost is right within a factor of 1.5 for ordinary photographs. The cost of a file that was made to be costly is
never below half of the time that it takes.
"""

from collections.abc import Callable
from typing import Final

from pipeline.bounds import COSTLY_FROM_S
from pipeline.images.geometry import dct_scale, scales, target_size
from pipeline.images.header import Header
from pipeline.records import FitTransform, UserTransform, WorkerTransform

# All costs are in nanoseconds of one core.

_IMAGE_NS: Final = 350_000.0
"""Cost of an image of any size: opening the file, the crop, the copy to a slot."""

_CHUNK_NS: Final = 1_500.0

_RESIZED_PIXEL_NS: Final = 4.5
"""Cost of a pixel of the resized image in `exact` mode, which resizes the whole image before the crop."""

_EXACT_MODE_PIXEL_NS: Final = 1.5
"""Additional cost of a pixel in `exact` mode, for formats other than JPEG."""

_DECODED_PIXEL_NS: Final = {"fast": 2.4, "exact": 5.0}
"""Cost of a decoded pixel of a JPEG, from coefficients to the crop. `fast` reduces the image, `exact` may turn it."""

_FIT_PIXEL_NS: Final = 5.0
"""Cost of a pixel of an image that `fast` mode resizes to fit; a crop's are part of `_IMAGE_NS`."""

_FLOAT_PIXEL_NS: Final = 11.0
"""Additional cost of a pixel before and after a resize of floats, as torchvision's detectors do it."""

_CMYK_PIXEL_NS: Final = 5.0
"""Cost of converting a pixel from CMYK to RGB."""

_HUFFMAN_BYTE_NS: Final = 10.0
_ARITHMETIC_BYTE_NS: Final = 110.0

_SAMPLE_NS: Final = {
    "baseline": 0.12,
    "extended": 0.12,
    "progressive": 1.0,
    "arithmetic": 2.0,
    "arithmetic progressive": 2.0,
    "lossless": 6.0,
}
"""Cost of a sample, the value of one channel: 1.5 a pixel in 4:2:0. Progressive JPEGs keep all in memory to the end."""

_VISITED_SAMPLE_NS: Final = {"progressive": 0.15, "arithmetic progressive": 1.3}
_VISITED_SAMPLE_OF_OTHERS_NS: Final = 0.3
"""Cost of a sample in each scan that visits it. A scan visits all blocks, also those to which it adds nothing."""

_REFINED_SAMPLE_NS: Final = 0.5
"""Additional cost of a sample in a scan that refines its coefficients."""

_BODY_BYTE_NS: Final = 6.0
"""Lowest cost of a byte of any body: that of WebP in base64."""

_MAX_ORDINARY_NS: Final = 0.99e9 * COSTLY_FROM_S

_MIN_TIMEOUT_S: Final = 1.0
_TIMEOUT_IN_COSTS: Final = 10
"""Time limit of an image as a multiple of its cost: workers run at low priority, so images may take much longer."""


def cost_s(header: Header, transform: WorkerTransform) -> float:
    """Return the seconds of one core that decoding and resizing the image should take.

    Without the time of a transform of the user's own, which `TransformCost` learns.
    """
    work_ns = _IMAGE_NS + _CHUNK_NS * header.chunks + _PIXELS_NS_BY_FORMAT[header.format](header, transform)
    if transform.decode == "exact":
        work_ns += 0 if header.format == "JPEG" else _EXACT_MODE_PIXEL_NS * header.width * header.height
    if transform.decode == "exact" and not isinstance(transform, UserTransform):
        across, down = target_size(header.width, header.height, transform)
        work_ns += _RESIZED_PIXEL_NS * across * down
    return (work_ns + _fit_ns(header, transform)) * 1e-9


def _fit_ns(header: Header, transform: WorkerTransform) -> float:
    """Return the additional nanoseconds of a resize to fit, whose result may be larger than the image."""
    if not isinstance(transform, FitTransform):
        return 0.0
    across, down = target_size(header.width, header.height, transform)
    if transform.makes_floats:
        return _FLOAT_PIXEL_NS * (header.width * header.height + across * down)
    return _FIT_PIXEL_NS * across * down if transform.decode == "fast" else 0.0


def body_cost_s(body_bytes: int) -> float:
    """Return a low estimate of the cost of all images in a body from its length; too high only if most is metadata.

    The cost is below that of a costly image, since a large body may carry many ordinary images.
    """
    return min(_IMAGE_NS + _BODY_BYTE_NS * body_bytes, _MAX_ORDINARY_NS) * 1e-9


def timeout_s(expected_s: float, most_s: float) -> float:
    """Return the seconds after which decoding an image is ended.

    Args:
        expected_s: cost of the image, scaled to this machine.
        most_s: upper limit for any cost.
    """
    return min(most_s, max(_MIN_TIMEOUT_S, _TIMEOUT_IN_COSTS * expected_s))


# ---- one function per format: nanoseconds----------------------------------------------------------------------------


def _jpeg(header: Header, transform: WorkerTransform) -> float:
    pixels = header.width * header.height
    a_byte = _ARITHMETIC_BYTE_NS if "arithmetic" in header.coding else _HUFFMAN_BYTE_NS
    a_visited_sample = _VISITED_SAMPLE_NS.get(header.coding, _VISITED_SAMPLE_OF_OTHERS_NS)
    a_decoded_pixel = _DECODED_PIXEL_NS[transform.decode] + (_CMYK_PIXEL_NS if header.channels == 4 else 0)
    a_pixel = (
        _SAMPLE_NS[header.coding] * header.samples
        + a_visited_sample * header.visited
        + _REFINED_SAMPLE_NS * header.refined
        + a_decoded_pixel / _part(header, transform) ** 2
    )
    return a_byte * header.bytes + a_pixel * pixels


def _part(header: Header, transform: WorkerTransform) -> int:
    if transform.decode == "exact" or not scales(header):
        return 1
    size = header.width, header.height
    return dct_scale(size, target_size(*size, transform))


def _png(header: Header, transform: WorkerTransform) -> float:
    del transform
    pixels = header.width * header.height
    raw_bytes = pixels * max(1.0, header.channels * header.bit_depth / 8)  # fewer bits are unpacked to bytes
    a_pixel = 6.0 if header.coding == "interlaced" else 3.2
    return a_pixel * pixels + 4.0 * raw_bytes + 10.0 * header.bytes


def _webp(header: Header, transform: WorkerTransform) -> float:
    del transform
    pixels = header.width * header.height
    if header.coding == "lossless":
        return 15.0 * pixels + 8.0 * header.bytes
    return (10.0 + (9.0 if header.channels == 4 else 0.0)) * pixels + 30.0 * header.bytes


def _rough(a_pixel: float, a_byte: float) -> Callable[[Header, WorkerTransform], float]:
    """Return a rough cost function, for formats that are only decoded if `formats` names them."""
    return lambda header, _: a_pixel * header.width * header.height + a_byte * header.bytes


_PIXELS_NS_BY_FORMAT: Final[dict[str, Callable[[Header, WorkerTransform], float]]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _rough(8.0, 10.0),
    "BMP": _rough(5.0, 0.5),
    "AVIF": _rough(12.0, 70.0),
    "HEIF": _rough(18.0, 100.0),
}
