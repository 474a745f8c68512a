"""Every error of Darkroom's own, drawn on the way of an image.

    DarkroomError
    ├── ClientError                 what was sent is at fault
    │   ├── RequestError            refuses a request whole, before anything is decoded
    │   │   ├── Unauthorized        before its body is read
    │   │   │   ├── MissingKey
    │   │   │   └── WrongKey
    │   │   ├── MalformedRequest
    │   │   ├── EmptyRequest
    │   │   ├── RequestTooLarge
    │   │   ├── TooManyImages
    │   │   ├── RequestTooCostly    decoding its images would take too much work, by their headers
    │   │   ├── SlowRequest
    │   │   ├── UnsupportedContentType
    │   │   └── UnsupportedContentEncoding
    │   └── ImageError              travels as a value, in a `Rejection`; neighbours never see it
    │       ├── UnreadableFile      on its way from a disk
    │       ├── EmptyImage
    │       ├── MalformedEncoding
    │       ├── ImageTooLarge       in bytes
    │       ├── TooManyPixels       by its header, before it is decoded
    │       ├── ImageTooCostly      decoding it would take too much work, by its header
    │       ├── UnsupportedFormat
    │       ├── UndecodableImage
    │       ├── TooMuchMemory       decoding it takes more than its process may have
    │       ├── SlowImage           decoding it took longer than the time limit
    │       ├── FatalImage          it ended the process that decoded it, twice
    │       ├── UnclassifiableImage the model fails on it, and on no other
    │       └── NonFiniteScores     the model's scores of it are NaN
    └── ServerError                 Darkroom, its machine or its configuration is at fault
        ├── InvalidModel            weights, labels or model name do not fit together
        ├── WorkerFailure           decoder processes do not start
        ├── DeviceFailure           the device computes no image any more
        ├── Stuck                   nothing comes through any more
        ├── EngineClosed
        ├── DeadlineExceeded        the time that the request had is over
        └── Overloaded              too much is in work already

A message is written for the client: it names the value, the limit and the way out, and nothing of the machine.
"""


def first_line(error: BaseException) -> str:
    """Class and first line of an error that others have raised: compilers and kernels add pages to it."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


class DarkroomError(Exception):
    """Base of every error that Darkroom raises on purpose."""


class ClientError(DarkroomError):
    """What was sent is at fault; sending the same again fails again."""


class RequestError(ClientError):
    """Refuses a request whole."""


class Unauthorized(RequestError):
    """The request does not show a key that opens this service."""


class MissingKey(Unauthorized):
    """The request shows no key."""


class WrongKey(Unauthorized):
    """The request shows a key that is not in force."""


class MalformedRequest(RequestError):
    """The body, a header or a parameter does not have the form it declares."""


class EmptyRequest(RequestError):
    """The body holds no image."""


class RequestTooLarge(RequestError):
    """The body is over the limit in bytes."""


class TooManyImages(RequestError):
    """The body holds more images than one request may."""


class RequestTooCostly(RequestError):
    """Decoding the images of the request would take more work than one request may make."""


class SlowRequest(RequestError):
    """The body has not arrived in time."""


class UnsupportedContentType(RequestError):
    """The body's content type is none that is read."""


class UnsupportedContentEncoding(RequestError):
    """The body is compressed in a way that is not decoded."""


class ImageError(ClientError):
    """One image cannot be answered; it travels as a value beside its neighbours' predictions."""


class UnreadableFile(ImageError):
    """The file that should hold the image cannot be read."""


class EmptyImage(ImageError):
    """The image has no bytes."""


class MalformedEncoding(ImageError):
    """The image's transfer encoding (base64) cannot be read."""


class ImageTooLarge(ImageError):
    """The encoded image is over the limit in bytes."""


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


class SlowImage(ImageError):
    """Decoding the image took longer than the time limit, and was ended with its process."""


class FatalImage(ImageError):
    """Decoding the image ended its process, and again when tried alone."""


class UnclassifiableImage(ImageError):
    """The model raises on the image, and computes another right after it."""


class NonFiniteScores(ImageError):
    """The model's scores of the image are NaN, and those of other images are not."""


class ServerError(DarkroomError):
    """Darkroom, its machine or its configuration is at fault."""


class InvalidModel(ServerError):
    """Model name, weights and labels do not fit together."""


class WorkerFailure(ServerError):
    """The decoder processes do not start."""


class DeviceFailure(ServerError):
    """The device, or the model on it, computes no image any more."""


class Stuck(ServerError):
    """Workers and device look alive, and nothing comes through."""


class EngineClosed(ServerError):
    """The engine was closed before it had answered."""


class DeadlineExceeded(ServerError):
    """The time that the request had is over; what had not been begun of it is left."""


class Overloaded(ServerError):
    """Too much is in work already; the same request may be sent again.

    Args:
        message: what is too much, and the limit.
        retry_after_s: when it may be sent again.
        at_once: whether its client should know at once: only this request has too little time, or it was given up.
    """

    def __init__(self, message: str, *, retry_after_s: int = 1, at_once: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s, self.at_once = retry_after_s, at_once
