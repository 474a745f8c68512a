"""Folders of the repository that this code is run from."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PEERS: Final = ROOT / ".cache" / "peers"
"""Environments of what Darkroom is compared with, one a framework; `make` fills it."""
