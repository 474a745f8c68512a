"""Keys of the tests' own."""

from pathlib import Path

KEY, OTHER, NEXT = "first-key-0123456789abcdef", "second.key~0123456789/abc+==", "third_key-fedcba9876543210"
"""The first two open the service, the third does not yet."""


def keys_file(folder: Path, text: str) -> Path:
    """Writes the file that a service reads."""
    path = folder / "keys"
    path.touch(0o600)
    path.write_text(text)
    return path


def bearer(key: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"Authorization": f"Bearer {key}"}
