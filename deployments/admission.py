"""How long a replica lets requests wait: a request that would wait longer is refused before it has cost anything."""

import math
from typing import Final

from pipeline.errors import Overloaded

_MAX_RETRY_AFTER_S: Final = 60


class Admission:
    """Decides whether a request is taken on. For one event loop."""

    def check_wait(self, expected_s: float, limit_s: float) -> None:
        """Raises Overloaded where a request would wait longer than it should, before it has cost anything.

        Without this limit a queue grows for as long as more comes than is answered, until every answer is late.
        """
        if expected_s > limit_s:
            raise Overloaded(
                f"its images would wait for {expected_s:.2f} s; the limit is {limit_s:g} s (max_wait_s, or the time "
                "that the request allows); the Retry-After header says when less should be waiting",
                retry_after_s=_whole_seconds(expected_s - limit_s),
            )


def _whole_seconds(seconds: float) -> int:
    return min(_MAX_RETRY_AFTER_S, max(1, math.ceil(seconds)))
