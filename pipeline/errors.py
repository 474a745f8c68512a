"""Errors of the pipeline, in the order of its stages; errors of requests are in `deployments/request_errors.py`.

    DarkroomError
    ├── ClientError          the input is at fault
    │   └── ImageError       one image is at fault; a value in the image's `Rejection`, which other images do not see
    └── ServerError          Darkroom, its machine or its configuration is at fault

A new error is one class, here or there, and at most one line in the table of statuses; without that line it has the
status of its base class. The client reads the message: it names the value, the limit and what to do, and tells nothing
about the machine.
"""

from typing import ClassVar


def first_line(error: BaseException) -> str:
    """Return the class and the first line of a foreign error; compilers and CUDA kernels add pages to theirs."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


class DarkroomError(Exception):
    """Base of every error that Darkroom raises on purpose.

    Attributes:
        stage: the stage of the pipeline in which the error arises, for the log.
    """

    stage: ClassVar[str]


class ClientError(DarkroomError):
    """The input is at fault; sending the same input again fails again."""

    stage = "read"  # the body -> images


class ImageError(ClientError):
    """One image has no prediction; the error is returned beside the predictions of the other images."""

    stage = "decode"  # bytes -> pixels, in a worker


class UnreadableFile(ImageError):
    """The file that should hold the image cannot be read."""


class EmptyImage(ImageError):
    """The image has no bytes."""

    stage = "read"


class ImageTooLarge(ImageError):
    """The encoded image has more bytes than the limit allows."""

    stage = "read"


class TooManyPixels(ImageError):
    """The header announces more pixels than the limit allows."""


class ImageTooCostly(ImageError):
    """Decoding the image would take more work than the limit allows."""


class UnsupportedFormat(ImageError):
    """The bytes are not an image, or an image of a format that is not decoded."""


class UndecodableImage(ImageError):
    """The bytes begin as an image of an accepted format, but cannot be decoded."""


class TooMuchMemory(ImageError):
    """Decoding the image takes more memory than a worker may use."""


class DecodeTimeout(ImageError):
    """Decoding the image took longer than its time limit, and was ended with its process."""


class DecoderCrashed(ImageError):
    """Decoding the image ended the decoder process, and again when the image was tried alone."""


class ModelFailedOnImage(ImageError):
    """The model raises on the image, and computes another image right after it."""

    stage = "device"  # pixels -> classes


class HeadFailed(ImageError):
    """The model's head raises on the rows of the image; a defect of the head, not of the image.

    Attributes:
        reason: the head's error with its file and line, which the client does not see.
    """

    stage = "device"

    def __init__(self, reason: str) -> None:
        super().__init__("the model's head fails on the image; the log of the service has the reason")
        self.reason = reason

    def __reduce__(self) -> tuple[type["HeadFailed"], tuple[str]]:
        """Make a copy in another process from the reason."""
        return type(self), (self.reason,)


class TransformFailed(ImageError):
    """The model's transform, the user's own, raises on the image, or returns something that is not the model's input.

    Attributes:
        trace: the user's own traceback, which the client does not see; empty if nothing was raised.
    """

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class NonFiniteScores(ImageError):
    """The model's scores of the image are NaN, while those of other images are finite."""

    stage = "device"


class ServerError(DarkroomError):
    """Darkroom, its machine or its configuration is at fault."""

    stage = "respond"  # outcomes -> JSON


class InvalidModel(ServerError):
    """Model name, weights and labels do not fit together."""

    stage = "start"  # before anything is served


class WorkerFailure(ServerError):
    """The decoder processes do not start, or are no longer supervised."""

    stage = "decode"


class DeviceFailure(ServerError):
    """The device, or the model on it, no longer computes any image."""

    stage = "device"


class EngineStalled(ServerError):
    """Workers and device look alive, but no image gets through."""

    stage = "queue"  # waiting for a worker or for the device


class EngineClosed(ServerError):
    """The engine was closed before it answered."""

    stage = "queue"
