"""Labels that make an answer right."""

from harness.local_service import Document

CAT_LABELS = {"Egyptian cat", "tabby", "tiger cat"}
"""Breeds that the model may see in the cat, depending on size and decoder."""


def best(result: Document) -> str:
    """Returns the first label of an image's predictions."""
    label: str = result["predictions"][0]["label"]
    return label
