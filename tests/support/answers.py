"""Labels that make an answer right."""

from harness.local_service import Document

CAT_LABELS = {"Egyptian cat", "tabby", "tiger cat"}
"""The breeds for which the cat may be taken, by the size and the decoder."""


def best(result: Document) -> str:
    """Returns the first label of an image's predictions."""
    label: str = result["predictions"][0]["label"]
    return label
