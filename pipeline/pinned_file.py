"""Files of weights and models: local paths and URLs, and the digest of the content that they must have.

A name ends in `#sha256=DIGEST` where the content is pinned: `./model.pth#sha256=9f11...`. Files from a URL must be
pinned and are kept by their digest, so nothing is fetched twice and nothing unknown is ever opened.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from pipeline.errors import InvalidModel

EXTRAS: Final = {"hf": "hf", "s3": "s3", "gs": "gs", "https": "", "http": ""}
"""Schemes of URLs from which files are fetched, each with the extra of Darkroom that it needs, if any."""

_URL: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://")
_PIN: Final = re.compile(r"(?P<file>.*)#sha256=(?P<digest>[^#]*)", re.DOTALL)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A file by its path or URL.

    Attributes:
        place: path or URL, without the digest.
        digest: SHA-256 of the content in 64 lower-case hexadecimal digits; None if any content is accepted.
        setting: name of the setting that has the name of the file, for messages.
    """

    place: str
    digest: str | None
    setting: str

    @classmethod
    def named(cls, name: str, setting: str) -> Self:
        """Return the file that a setting names.

        Raises:
            ValueError: the digest is not one, the URL is not pinned, or its scheme is not supported.
        """
        pinned = _PIN.fullmatch(name)
        place, digest = (pinned["file"], pinned["digest"].lower()) if pinned else (name, None)
        file = cls(place, digest, setting)
        if digest is not None and not _DIGEST.fullmatch(digest):
            raise ValueError(
                f"the digest of {file} has to be 64 hexadecimal digits, as `sha256sum FILE` prints them, but is "
                f"{digest[:80] or 'empty'}"
            )
        if file.scheme and file.scheme not in EXTRAS:
            raise ValueError(f"{file} cannot be fetched; write a path, or a URL of {', '.join(EXTRAS)}")
        if file.scheme and "@" in urlsplit(place).netloc:
            raise ValueError(
                "a URL in the settings has no user and password, as /info and the log show it; give them by variables "
                "of the environment"
            )
        if file.scheme and not digest:
            raise ValueError(
                f"{file} is fetched only if its content is known; append #sha256=DIGEST with what `sha256sum FILE` "
                "prints for it"
            )
        return file

    def __str__(self) -> str:
        """Return the path or URL."""
        return self.place

    @property
    def scheme(self) -> str | None:
        """Scheme of the URL in lower case, e.g. "s3"; None for a path."""
        found = _URL.match(self.place)
        return found["scheme"].lower() if found else None

    @property
    def suffix(self) -> str:
        """Suffix of the file's name in lower case, such as ".onnx"."""
        return Path(urlsplit(self.place).path if self.scheme else self.place).suffix.lower()

    def missing(self) -> str | None:
        """Return a sentence if the file of a URL is not on this machine, else None; nothing is fetched."""
        if not self.scheme or (kept := self.kept_at()).is_file():
            return None
        return f"{self.setting}: {self} is not on this machine yet; a start fetches it to {kept}"

    def kept_at(self) -> Path:
        """Return the path at which the content of a URL is kept.

        Raises:
            InvalidModel: this user has neither a home nor another folder for such files.
        """
        if not (folder := cache_folder()):
            raise InvalidModel(
                f"{self.setting}: {self} is kept in the home directory, and this user has none; set HOME or TORCH_HOME "
                "to a folder where this user may write"
            )
        return folder / f"{self.digest}{self.suffix}"

    def check(self, path: Path) -> None:
        """Compare the content of a local file with the digest, if there is one.

        Raises:
            InvalidModel: the content is another, or cannot be read.
        """
        if self.digest is None:
            return
        try:
            found = digest_of(path)
        except OSError as error:
            raise InvalidModel(f"{self.setting}: {path} cannot be read: {error.strerror or error}") from error
        if found != self.digest:
            raise InvalidModel(
                f"{self.setting}: the content of {self} is not the one that is pinned: its SHA-256 is {found} instead "
                f"of {self.digest}"
            )


def cache_folder() -> Path | None:
    """Return the folder of fetched files, beside torch's own files of weights; None if this user has no home."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.path.expanduser(os.environ.get("TORCH_HOME") or f"{cache}/torch")
    return None if folder.startswith("~") else Path(folder, "darkroom")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
