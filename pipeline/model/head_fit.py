"""Checks at the start that a head fits the output of its module, and what its results must be."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

import torch
from torch import Tensor

from pipeline.errors import InvalidModel
from pipeline.model.served import Head
from pipeline.result import as_text
from pipeline.users_code import in_place, place_of_function

_SHOWN_MEMBERS: Final = 6

RESERVED_MEMBERS: Final = ("error", "file", "model", "results")
"""Members of the JSON around a result, which no result may have itself."""


def described(outputs: Any) -> str:
    """Describe the output of a module by its kind and shapes, e.g. "float32 [2, 1000]"."""
    if isinstance(outputs, Tensor):
        return f"{str(outputs.dtype).removeprefix('torch.')} {[*map(int, outputs.shape)]}"
    if isinstance(outputs, Mapping):
        members = [f"{name!r}: {described(value)}" for name, value in [*outputs.items()][:_SHOWN_MEMBERS]]
        return f"a dict of {len(outputs)}: {{{', '.join(members)}}}"
    if isinstance(outputs, tuple | list):
        members = [described(value) for value in outputs[:_SHOWN_MEMBERS]]
        return f"a {type(outputs).__name__} of {len(outputs)}: ({', '.join(members)})"
    return f"a {type(outputs).__name__}"


def is_floats(outputs: Any) -> TypeGuard[Tensor]:
    """Return whether the output of a module is one tensor of floats."""
    return isinstance(outputs, Tensor) and outputs.is_floating_point()


def check_logits(outputs: Any, images: int, labels: Sequence[str]) -> None:
    """Raise ValueError, with shapes and a way out, if the outputs are not logits [images, classes].

    Args:
        outputs: output of the module.
        images: number of images in the batch.
        labels: names of the classes; not compared if there are none.
    """
    if not (is_floats(outputs) and outputs.ndim == 2 and len(outputs) == images):
        raise ValueError(
            f"the module must return logits, float [{images}, classes] for {images} images, and returns "
            f"{described(outputs)}; wrap it in a module that returns them, or give a head of your own"
        )
    if labels and outputs.shape[1] != len(labels):
        raise ValueError(
            f"there are {len(labels)} labels, and the module returns {outputs.shape[1]} classes for each image, "
            f"{described(outputs)}; give a label for each class"
        )


def checked_rows(head: Head, outputs: Any, images: int) -> dict[str, Tensor]:
    """Return the head's rows of the first batch.

    Raises:
        InvalidModel: the module's output does not fit the head, or the head does not return a row for each image.
    """
    name = type(head).__name__
    try:
        head.check(outputs, images)
    except ValueError as error:
        raise InvalidModel(f"the head {name} does not fit the model: {error}") from error
    try:
        rows = head.on_device(outputs)
    except torch.OutOfMemoryError:  # says nothing about the head
        raise
    except Exception as error:
        raise InvalidModel(
            f"the head {name} fails on the output of the module, {described(outputs)}: {in_place(error)}"
        ) from error
    fault = _fault_in_rows(rows, images)
    if fault:
        where = place_of_function(type(head).on_device)
        raise InvalidModel(
            f"{name}.on_device ({where}) must return a dict of tensors with {images} rows for {images} images, and "
            f"returns {fault}"
        )
    return rows


def _fault_in_rows(rows: Any, images: int) -> str:
    if not isinstance(rows, dict) or not rows:
        return described(rows)
    for name, tensor in rows.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.ndim == 0 or len(tensor) != images:
            return f"{name!r}: {described(tensor)}"
    return ""


def fault_in_results(head: Head, results: Any, images: int) -> str:
    """Return a sentence if the head's results of a batch are not a list of one for each image; empty if they are."""
    if isinstance(results, list | tuple) and len(results) == images:
        return ""
    found = f"{len(results)} results" if isinstance(results, list | tuple) else f"a {type(results).__name__}"
    where = place_of_function(type(head).results)
    return f"{type(head).__name__}.results ({where}) returns {found} for {images} images, not a list of one for each"


def check_documents(head: Head, documents: Sequence[Any]) -> None:
    """Check that the results of test images can be answered.

    Args:
        head: the head that made them; for the message.
        documents: functions without arguments that return the JSON of a result each.

    Raises:
        InvalidModel: a result cannot be written as JSON.
    """
    where = f"{type(head).__name__}.results ({place_of_function(type(head).results)})"
    for document in documents:
        try:
            body = document()
        except Exception as error:
            raise InvalidModel(f"a result of {where} has no JSON: {in_place(error)}") from error
        if not isinstance(body, Mapping):
            raise InvalidModel(f"a result of {where} must be a mapping, and is {described(body)}")
        if taken := [name for name in RESERVED_MEMBERS if name in body]:
            raise InvalidModel(f'a result of {where} has the member "{taken[0]}", which answers use; rename it')
        try:
            as_text(body)
        except TypeError as error:
            raise InvalidModel(f"a result of {where} cannot be written as JSON: {error}") from error
