"""Results of a batch from a model's head; an image on which the head raises costs its neighbours nothing."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from pipeline.errors import HeadFailed
from pipeline.images.geometry import Geometry
from pipeline.model.head_fit import fault_in_results
from pipeline.model.served import Head
from pipeline.users_code import in_place

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "device"})


def results_of(head: Head, rows: Mapping[str, Tensor], geometry: Sequence[Geometry]) -> Sequence[Any]:
    """Return one result an image, in order, or a `HeadFailed` for each image on which the head raises.

    Args:
        head: makes the results.
        rows: tensors of n rows, as by `Head.on_device`, in host memory.
        geometry: one for each image.
    """
    images = len(geometry)
    try:
        found = head.results(rows, geometry)
    except Exception as error:
        if images == 1:
            logger.exception("the model's head fails on an image: %s", in_place(error))
            return [HeadFailed(in_place(error))]
        logger.warning("the model's head fails on a batch of %d images: %s", images, in_place(error))
        return _one_by_one(head, rows, geometry)
    if fault := fault_in_results(head, found, images):
        logger.error("%s", fault)
        return [HeadFailed(fault) for _ in range(images)]
    return found


def _one_by_one(head: Head, rows: Mapping[str, Tensor], geometry: Sequence[Geometry]) -> list[Any]:
    found: list[Any] = []
    for position in range(len(geometry)):
        one = {name: tensor[position : position + 1] for name, tensor in rows.items()}
        found += results_of(head, one, geometry[position : position + 1])
    return found
