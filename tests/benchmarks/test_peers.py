"""Test of the environments of the servers that Darkroom is compared with."""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.repository import ROOT

IMPORTING = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))  # importing one of these fails
import benchmarks.limit, pipeline.decode.memory, pipeline.images.decode, pipeline.live_limits
"""
"""Imports what `benchmarks/peers/variants.py` does where a peer uses Darkroom's decoder, without some modules."""


def _with_theirs(names: Iterable[str], seen: set[str]) -> Iterator[str]:
    """Yield packages and all that they require."""
    for name in map(canonicalize_name, names):
        if name in seen:
            continue
        seen.add(name)
        yield name
        try:
            needed = map(Requirement, requires(name) or ())
        except PackageNotFoundError:  # the peer itself, which is not installed here
            continue
        yield from _with_theirs((each.name for each in needed if not each.marker or each.marker.evaluate()), seen)


@pytest.mark.parametrize("peer", ["litserve", "mosec"])
def test_a_peer_s_environment_has_all_that_our_decoder_imports(peer: str) -> None:
    """Every package that the decoder imports is installed beside each peer that is measured with it."""
    written = (ROOT / "benchmarks" / "peers" / f"{peer}.txt").read_text()
    installed = set(_with_theirs(re.findall(r"^([\w-]+)", written, re.MULTILINE), set()))
    own = {"darkroom", "pip", "setuptools"}
    missing = [
        module
        for module, packages in packages_distributions().items()
        if not {canonicalize_name(package) for package in packages} & (installed | own)
    ]
    assert "ray" in missing
    imports = subprocess.run(
        [sys.executable, "-c", IMPORTING, *missing], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert (imports.returncode, imports.stderr) == (0, "")
