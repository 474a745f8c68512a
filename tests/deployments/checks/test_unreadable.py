"""Tests of configurations that cannot be read: each is refused in one sentence that names the file."""

import re
from pathlib import Path

import pytest

from deployments.checks.configuration import read_configuration
from deployments.checks.start_error import StartError


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {b: *a}\napplications: [{import_path: a:b}]",
        "applications: &a [*a]",
        "&a [*a]",
        "[" * 5000,
        "applications: [" + "9" * 5000 + "]",
        "applications: [2026-99-99]",
        "applications: [!!python/object/apply:os.system [ls]]",
        "? [a]\n: b",
        "a: b\n--- \nc: d",
        "a: *nowhere",
        "applications: {import_path: deployments.app:build_app}",
        "applications: nothing",
        "\x00",
    ],
    ids=lambda text: text[:30],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "serve_config.yaml"
    file.write_text(text)
    with pytest.raises(StartError, match=r"serve_config\.yaml") as refused:
        read_configuration(file)
    assert "\n" not in str(refused.value)


def test_what_is_no_file_is_one_sentence(tmp_path: Path) -> None:
    """A configuration that cannot be read is one sentence: a folder, an endless file, too long a name, or no UTF-8."""
    (tmp_path / "latin").write_bytes(b"a: \xff")
    for file in (tmp_path, Path("/proc/self/mem"), Path("/dev/zero"), tmp_path / ("x" * 300), tmp_path / "latin"):
        with pytest.raises(StartError, match=re.escape(str(file))):
            read_configuration(file)
