"""Folders of the repository that this code runs from."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PEERS: Final = ROOT / ".cache" / "peers"
"""Folder of the peers' environments, one for each framework; `make` fills it."""
