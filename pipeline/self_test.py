"""The engine's own test image: sent while no other image passes, and expected back."""

import time
from concurrent.futures import Future

from pipeline.bounds import PROBE_WHEN_IDLE_FOR_S, STALLED_AFTER_S
from pipeline.decode.stage import DecodeStage
from pipeline.errors import EngineStalled
from pipeline.model.batcher import Batcher
from pipeline.records import EncodedImage, Outcome
from pipeline.task import Request


class SelfTest:
    """Sends a test image through both stages when no image has passed lately, and reports that none comes through.

    Args:
        image: the test image.
        decode: the stage that the image is given to.
        compute: the stage that answers it.
    """

    def __init__(self, image: EncodedImage, decode: DecodeStage, compute: Batcher) -> None:
        self._image, self._decode, self._compute = image, decode, compute

    def begin(self, *, copies: int, others: list[EncodedImage]) -> Future[list[Outcome]]:
        """Send copies of the test image, and other images behind them; the limits for clients do not hold here."""
        request = Request([self._image] * copies + others)
        self._decode.submit(request.tasks)
        self._sent, self._sent_at = request.future, time.monotonic()
        return self._sent

    def check(self) -> None:
        """Send the test image if no image has been finished lately. Does not wait.

        Raises:
            EngineStalled: no image has come through for too long, not even the test image that was sent before.
        """
        idle_s = time.monotonic() - max(self._compute.answered_at, self._sent_at, self._decode.resumed_at)
        if not self._sent.done():
            # Work in progress has time limits of its own. Work that has just ended shows that images get through, also
            # if it ended with a rejection or with the end of a worker.
            at_work = self._decode.at_work or self._compute.at_work  # read before `moved_at`, the end of that work
            still_s = min(idle_s, time.monotonic() - self._decode.moved_at)
            if still_s > STALLED_AFTER_S and not at_work:
                raise EngineStalled(f"no image has come through for {still_s:.0f} s, not even the engine's test image")
        elif idle_s > PROBE_WHEN_IDLE_FOR_S:
            self.begin(copies=1, others=[])
