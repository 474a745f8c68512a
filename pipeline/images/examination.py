"""Examines an encoded image before it is admitted: checks its header against the limits, and estimates its cost.

Runs in the replica, on bytes that are not trusted: headers are read in pure Python, and no decoder is called.
"""

from pipeline.errors import EmptyImage, ImageError, ImageTooLarge
from pipeline.images.header import read_header
from pipeline.images.limits import check_image
from pipeline.live_limits import Limits
from pipeline.records import EncodedImage, Rejection, WorkerTransform
from pipeline.transform_cost import TransformCost


def examine(
    image: EncodedImage, limits: Limits, transform: WorkerTransform, users_cost: TransformCost | None = None
) -> EncodedImage | Rejection:
    """Set the cost of an image and return the image, or return its rejection.

    The time of a transform of the user's own, `users_cost`, is part of the cost, but not of the work that is limited.
    The worker that decodes the image does not rely on this, and reads the header again.
    """
    try:
        image.cost_s = _cost_s(image, limits, transform, users_cost)
    except ImageError as error:
        return Rejection(error.with_traceback(None))  # the traceback's frames would keep the image alive
    return image


def _cost_s(image: EncodedImage, limits: Limits, transform: WorkerTransform, users_cost: TransformCost | None) -> float:
    if not image.size:
        raise EmptyImage("the image has no bytes")
    if image.size > limits.max_image_bytes:
        raise ImageTooLarge(f"the image has {image.size} bytes; the limit is {limits.max_image_bytes}")
    header = read_header(image.pieces, transform.formats)
    cost_s = check_image(header, transform, limits.max_image_pixels, limits.max_image_work_s)
    return cost_s + (users_cost.seconds(header.width * header.height) if users_cost else 0.0)
