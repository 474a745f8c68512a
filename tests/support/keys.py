"""API keys for tests."""

from pathlib import Path

KEY, OTHER, NEXT = "first-key-0123456789abcdef", "second.key~0123456789/abc+==", "third_key-fedcba9876543210"
"""The first two keys are valid; the third is not yet."""


def keys_file(folder: Path, text: str) -> Path:
    """Write a key file, as a service reads it."""
    path = folder / "keys"
    path.touch(0o600)
    path.write_text(text)
    return path


def bearer(key: str) -> dict[str, str]:
    """Return the header that sends a key."""
    return {"Authorization": f"Bearer {key}"}
