"""Speeds that an earlier start of the same configuration measured on this machine, kept in a file.

A replica that starts again, or one more on the same machine, need not measure them anew: that takes as long as half of
its start. Only speeds are kept. That the scores agree is compared at every start, since weights may have changed.
"""

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pydantic import PositiveFloat, PositiveInt, TypeAdapter, ValidationError

from pipeline.config import PipelineConfig
from pipeline.model.device import ComputedAs

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})


@dataclass(frozen=True, slots=True)
class Speeds:
    """Measurements of one start.

    Attributes:
        computed_as: the runtime and number format that were chosen, and all that were compared.
        batch_s: seconds of a batch by its size.
    """

    computed_as: ComputedAs
    batch_s: Mapping[PositiveInt, PositiveFloat]


_JSON: Final = TypeAdapter(Speeds)


class KnownSpeeds:
    """The file of one configuration. A file that is missing, damaged or not writable only costs the measurements.

    Args:
        path: the file; its folder must belong to one machine.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of(cls, config: PipelineConfig, concurrent_batches: int, folder: Path) -> Self:
        """Return the file for a configuration.

        Args:
            config: the configuration.
            concurrent_batches: number of batches that are computed at a time.
            folder: folder for the files of all configurations; belongs to one machine.
        """
        key = f"{config.model_dump_json()} {concurrent_batches}"
        return cls(folder / f"darkroom-speeds-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json")

    def read(self) -> Speeds | None:
        """Return what was written last; None if there is nothing to be read."""
        try:
            return _JSON.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            logger.warning("%s is ignored, and speeds are measured anew: %s", self._path, str(error).partition("\n")[0])
            return None

    def write(self, speeds: Speeds) -> None:
        """Keep measurements for the next start; other processes see the old file or the new one."""
        part = self._path.with_suffix(f".{os.getpid()}")
        try:
            part.write_bytes(_JSON.dump_json(speeds))
            part.replace(self._path)
        except OSError as error:
            logger.warning("speeds are not kept for the next start: %s", error)
