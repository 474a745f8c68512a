"""Writes settings into the text of a configuration and keeps the rest of it, comments included."""

import difflib
import io
import re
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.util import load_yaml_guess_indent

from deployments.checks.chosen_application import chosen_application
from tuning.replica_settings import Settings, written_into

_NO_WRAPPING = 1 << 16


_FIGURE: Final = re.compile(r"\d")

MEANINGS: Final = {
    "max_batch_size": "images that the model takes at a time, at most",
    "batch_sizes": "batch sizes that are warmed up; on CUDA every batch is padded to one of them",
    "slots": "images in shared memory between decoding and the model",
    "max_ongoing_requests": "requests in a replica at a time",
    "max_queue_wait_s": "requests that would wait longer get 503 and Retry-After",
    "decode_workers": "processes that decode images",
    "concurrent_batches": "batches that the model computes at a time, a core each",
    "chunk_bytes": "bytes of images that a worker is handed at a time",
    "num_cpus": "cores that Ray reserves for a replica",
}
"""Comments for keys that are new to a configuration.

Present keys keep their own comment, unless it has a figure, which would describe the old value.
"""


def with_settings(
    text: str, settings: Settings, present: Settings | None = None, *, application: str | None = None
) -> str:
    """Write settings into an application of Darkroom in a configuration; return its text.

    Args:
        text: text of the configuration.
        settings: settings to be written.
        present: effective present settings; equal values are not written. None: all values are written.
        application: name of the application; None for the only one.
    """
    _, indent, offset = load_yaml_guess_indent(text)
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, _NO_WRAPPING
    yaml.indent(mapping=2, sequence=indent or 2, offset=offset or 0)
    document = yaml.load(text)
    written_into(chosen_application(document, application)[1], settings, _put, present)
    written = io.StringIO()
    yaml.dump(document, written)
    return written.getvalue()


def _put(mapping: Any, key: str, value: Any) -> None:
    """Set a value, and its comment if there is none or if it has figures of the old value.

    Lists stand on one line; a new key before the last one, behind which blank lines and comments of what follows stand.
    """
    if isinstance(value, list):
        value = CommentedSeq(value)
        value.fa.set_flow_style()
    if not isinstance(mapping, CommentedMap):
        mapping[key] = value
    elif key in mapping:
        if mapping[key] != value:
            _correct_comment(mapping, key)
        mapping[key] = value
    else:
        mapping.insert(max(0, len(mapping) - 1), key, value, MEANINGS.get(key))


def _correct_comment(mapping: CommentedMap, key: str) -> None:
    """Replace the comment of the line alone: what follows the line stands in the same token."""
    tokens = mapping.ca.items.get(key)
    token = tokens[2] if tokens else None
    if token is None or key not in MEANINGS:
        return
    first, newline, rest = token.value.partition("\n")
    if _FIGURE.search(first):
        token.value = f"# {MEANINGS[key]}{newline}{rest}"


def diff(path: Path, before: str, after: str) -> str:
    """Format the changes like `diff -u`; empty if there are none."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), str(path), f"{path} (tuned)"
    )
    return "".join(lines)
