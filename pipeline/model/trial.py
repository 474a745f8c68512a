"""First run of a user's own module, on test inputs: finds the memory format that it takes, and its errors."""

import logging

import torch
from torch import Tensor

from pipeline.errors import InvalidModel, first_line
from pipeline.input_spec import InputSpec
from pipeline.model.device_module import DeviceModule
from pipeline.users_code import in_place

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})

TRIED_IMAGES = 2
"""Images in the batch: a module that mixes images up, or takes only one, is noticed with two."""

_NO_KERNEL = "not implemented for"
"""Part of torch's message if the CPU has no kernel for a number format; another device may have one."""


def try_module(module: DeviceModule, inputs: Tensor) -> None:
    """Compute a batch on the CPU. A module that refuses channels_last is served in torch's usual memory format.

    (`view` refuses tensors in channels_last, and many networks flatten their features with it.)

    Args:
        module: the model on the CPU.
        inputs: [n, *shape].

    Raises:
        InvalidModel: the module raises in both formats, or the head does not fit it.
    """
    try:
        _run(module, inputs)
    except InvalidModel:
        raise
    except Exception as error:  # noqa: BLE001 - the user's code raises anything
        if _NO_KERNEL in str(error):
            return
        module.leave_channels_last()
        _try_again(module, inputs)
        logger.info("the model is computed in torch's usual memory format, as in channels_last: %s", first_line(error))


def _try_again(module: DeviceModule, inputs: Tensor) -> None:
    try:
        _run(module, inputs)
    except InvalidModel:
        raise
    except Exception as error:
        raise InvalidModel(
            f"model: the module fails on a batch of {len(inputs)} test images, {InputSpec.of(inputs)} each: "
            f"{in_place(error)}"
        ) from error


def _run(module: DeviceModule, inputs: Tensor) -> None:
    with torch.inference_mode():
        module(inputs)
