"""Folder of the repository that this code is run from."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
