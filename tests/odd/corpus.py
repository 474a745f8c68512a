"""The corpus of all odd files."""

import functools

from tests.odd.costly import costlies
from tests.odd.damage import damages
from tests.odd.jpegs import jpegs
from tests.odd.metadata import metadata
from tests.odd.odd_file import OddFile
from tests.odd.pngs import pngs
from tests.odd.transparent import transparents
from tests.odd.unsupported import unsupporteds
from tests.odd.webps import webps

_MAKERS = (jpegs, pngs, webps, transparents, metadata, damages, unsupporteds, costlies)


@functools.cache
def corpus() -> tuple[OddFile, ...]:
    """Return all odd files, made once, with unique names."""
    files = tuple(file for make in _MAKERS for file in make())
    names = [str(file) for file in files]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    return files
