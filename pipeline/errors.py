"""Errors of the pipeline, in the order of an image's way; those of the edge are in `deployments/request_errors.py`.

    DarkroomError
    ├── ClientError          what was sent is at fault
    │   └── ImageError       one image; travels as a value in a `Rejection`, and its neighbours never see it
    └── ServerError          Darkroom, its machine or its configuration is at fault

A new error is one class, here or there, and at most one line in the table of statuses; without one, its status is that
of its base. A message is written for the client: it names the value, the limit and the way out, and nothing of the
machine.
"""

from typing import ClassVar


def first_line(error: BaseException) -> str:
    """Class and first line of an error that others have raised: compilers and kernels add pages to it."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


class DarkroomError(Exception):
    """Base of every error that Darkroom raises on purpose.

    Attributes:
        stage: where on an image's way it arises, for the log.
    """

    stage: ClassVar[str]


class ClientError(DarkroomError):
    """What was sent is at fault; sending the same again fails again."""

    stage = "read"  # the body -> images


class ImageError(ClientError):
    """One image cannot be answered; it travels as a value beside its neighbours' predictions."""

    stage = "decode"  # bytes -> pixels, in a worker


class UnreadableFile(ImageError):
    """The file that should hold the image cannot be read."""


class EmptyImage(ImageError):
    """The image has no bytes."""

    stage = "read"


class ImageTooLarge(ImageError):
    """The encoded image is over the limit in bytes."""

    stage = "read"


class TooManyPixels(ImageError):
    """The header announces more pixels than are decoded."""


class ImageTooCostly(ImageError):
    """Decoding the image would take more work than one image may make."""


class UnsupportedFormat(ImageError):
    """The bytes begin like no image format that is served."""


class UndecodableImage(ImageError):
    """The bytes begin like an image that is served, but cannot be decoded."""


class TooMuchMemory(ImageError):
    """Decoding the image takes more memory than its process may have."""


class DecodeTimeout(ImageError):
    """Decoding the image took longer than the time limit, and was ended with its process."""


class DecoderCrashed(ImageError):
    """Decoding the image ended its process, and again when tried alone."""


class ModelFailedOnImage(ImageError):
    """The model raises on the image, and computes another right after it."""

    stage = "device"  # pixels -> classes


class NonFiniteScores(ImageError):
    """The model's scores of the image are NaN, and those of other images are not."""

    stage = "device"


class ServerError(DarkroomError):
    """Darkroom, its machine or its configuration is at fault."""

    stage = "respond"  # outcomes -> JSON


class InvalidModel(ServerError):
    """Model name, weights and labels do not fit together."""

    stage = "start"  # before anything is served


class WorkerFailure(ServerError):
    """The decoder processes do not start."""

    stage = "decode"


class DeviceFailure(ServerError):
    """The device, or the model on it, computes no image any more."""

    stage = "device"


class EngineStalled(ServerError):
    """Workers and device look alive, and nothing comes through."""

    stage = "queue"  # waiting for a worker or for the device


class EngineClosed(ServerError):
    """The engine was closed before it had answered."""

    stage = "queue"
