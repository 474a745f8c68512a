"""Labels by which an answer is right."""

from harness.local_service import Document

CAT_LABELS = {"Egyptian cat", "tabby", "tiger cat"}
"""The breeds for which the cat may be taken, by the size and the decoder."""


def best(result: Document) -> str:
    """The first label of an image's predictions."""
    label: str = result["predictions"][0]["label"]
    return label
