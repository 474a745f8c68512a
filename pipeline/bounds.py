"""Bounds that no setting changes: bytes, pixels, seconds and counts, each with its reason."""

MAX_ENCODED_BYTES = 64 << 20
"""Address space for one encoded image in shared memory, and so the highest possible `max_image_bytes`."""

MAX_RESIZED_PIXELS = 50_000_000
"""Most pixels of a resized image in `exact` mode, which resizes the whole image before it crops.

Without this limit a PNG of 1 x 20,000 pixels (118 bytes) would take 6 GB.
"""

DECODE_BASE_BYTES = 256 << 20
"""Memory that a worker may use for an image of any size: two or three copies of the file, tables, malloc's reserve."""

DECODE_BYTES_PER_PIXEL = 24
"""Memory that a worker may use in addition, for each pixel of the largest image that the limits allow.

Measured by `make costs` at the largest sizes that the limit on work allows: 10 for a JPEG, 14 for a PNG, 22 for WebP.
"""

KEPT_FREED_BYTES = 96 << 20
"""Freed memory that a worker keeps from one image to the next: a PNG of 12 megapixels leaves 87 MiB."""

CHUNKS_PER_WORKER = 2
"""Chunks that a worker holds at a time: one in work and one waiting, so that a worker never waits for the replica."""

BATCHES_AHEAD = 1
"""Decoded batches that may wait for the device, for each concurrent batch; then the workers get no more images."""

WORKER_NICENESS = 5
"""Niceness of the workers: the replica runs first where both want a core.

With equal priority, requests queue before the replica's event loop while every worker decodes one image at a time. With
this niceness, images queue before the workers instead, which then get many at once, and all of them cost less.
"""

WORKER_START_TIMEOUT_S = 120.0
"""Time that a worker has to report that it is ready; after that its start has failed."""

CLAIM_TIMEOUT_S = 3.0
"""Time that a worker has to begin an image that it holds; then the worker is ended, and no image is blamed."""

COSTLY_FROM_S = 0.05
"""Lowest cost of an image that waits in the queue of costly images.

A worker may hold two cheaper images, and a new image waits for both: 0.1 s on the machine that costs come from.
"""

OTHERS_LEFT_ALONE_FOR_S = 10.0
"""Time after an ordinary image in which spare workers decode no costly ones: whoever sent it may send more.

With costly images on every core, an ordinary one takes up to twice as long, and now and then a second or more.
"""

MAX_CHUNK_COST_S = 0.04
"""Cost at which a chunk, the images handed to a worker together, is full."""

MIN_CHUNK_COST_S = 0.004
"""Cost below which a chunk takes another image, if no worker gets more than its even share by that.

Handing over a chunk and taking its result cost the replica about 0.15 ms.
"""

USUAL_COST_S = 0.003
"""Cost of an image whose header has not been read: that of a photograph of 0.3 megapixels."""

USUAL_PIXELS = 300_000
"""Pixels of such an image."""

HANDED_OVER_AFTER_S = 0.1
"""Time that a worker may spend on one image before the images behind it go to another worker."""

STOPPED_AFTER_S = 0.1
"""Time after which a stopped worker (SIGSTOP) is ended, and its images go to another worker."""

FROZEN_FROM_S = 1.0
"""Gap between two looks at the workers from which this process counts as frozen; there are twenty looks a second."""

PROBE_WHEN_IDLE_FOR_S = 2.0
"""Time without a finished image after which `Engine.check` sends a test image through the whole path."""

STALLED_AFTER_S = 8.0
"""Time without a finished image after which the engine counts as stalled, if no image is in work."""

STUCK_AFTER_BATCHES = 10
"""Time without an answer after which a device that holds a batch counts as stalled, in slowest batches of its warm-up.

At least `STALLED_AFTER_S`, and at least the time that the warm-up took.
"""

MAX_UNBLAMED_DEATHS = 3
"""Workers that may end while they hold an image and claim that they had begun none; then the image is blamed.

A worker that an image has taken over may claim so. That image would end one worker after the other, and never be
rejected.
"""

MAX_FAILED_STARTS = 3
"""Workers in a row that end before they are ready, after which the decode stage fails."""

FETCH_STALLED_AFTER_S = 60.0
"""Time without a new byte of a file of weights after which fetching it has failed."""

FETCH_TIMEOUT_S = 3600.0
"""The longest that fetching a file of weights may take, waiting for another replica that fetches it included."""


def decode_memory_bytes(max_pixels: int) -> int:
    """Return the most memory, in bytes, that a worker may use for an image of at most `max_pixels`."""
    return DECODE_BASE_BYTES + DECODE_BYTES_PER_PIXEL * max_pixels
