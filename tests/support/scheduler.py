"""The order of test files in a run of several processes: files with a shared service stay together."""

import re
from functools import cache
from typing import Final

from xdist.scheduler import LoadFileScheduling

from harness.repository import ROOT

_TAKES_A_SERVICE: Final = re.compile(r"\b(service|several|guarded): Service\b")


class SharedServices(LoadFileScheduling):  # type: ignore[misc]  # xdist has no annotations
    """Keeps the tests of a file in one process, and all files whose tests take a shared service in the same one."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "services" if _takes_a_service(file) else file


@cache
def _takes_a_service(file: str) -> bool:
    return bool(_TAKES_A_SERVICE.search((ROOT / file).read_text("utf-8")))
