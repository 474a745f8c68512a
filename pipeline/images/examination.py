"""Examines an encoded image before it is admitted: checks its header against the limits, and estimates its cost.

Runs in the replica, on bytes that are not trusted: headers are read in pure Python, and no decoder is called.
"""

from pipeline.config import Limits
from pipeline.errors import EmptyImage, ImageError, ImageTooLarge
from pipeline.images.header import read_header
from pipeline.images.limits import check_image
from pipeline.records import EncodedImage, FitTransform, Rejection, Transform


def examine(image: EncodedImage, limits: Limits, transform: Transform | FitTransform) -> EncodedImage | Rejection:
    """Set the price of an image and return the image, or return its rejection.

    The worker that decodes the image does not rely on this, and reads the header again.
    """
    try:
        image.price_s = _price_s(image, limits, transform)
    except ImageError as error:
        return Rejection(error.with_traceback(None))  # the traceback's frames would keep the image alive
    return image


def _price_s(image: EncodedImage, limits: Limits, transform: Transform | FitTransform) -> float:
    if not image.size:
        raise EmptyImage("the image has no bytes")
    if image.size > limits.max_image_bytes:
        raise ImageTooLarge(f"the image has {image.size} bytes; the limit is {limits.max_image_bytes}")
    header = read_header(image.pieces, transform.formats)
    return check_image(header, transform, limits.max_image_pixels, limits.max_image_work_s)
