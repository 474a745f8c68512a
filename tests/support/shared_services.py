"""Tells which test files take a service that several files share."""

import re
from functools import cache
from typing import Final

from harness.repository import ROOT

_TAKES_A_SERVICE: Final = re.compile(r"\b(service|several|guarded): Service\b")


@cache
def takes_a_service(file: str) -> bool:
    """Return whether tests of a file, by its path from the root, take a shared service."""
    return bool(_TAKES_A_SERVICE.search((ROOT / file).read_text("utf-8")))
