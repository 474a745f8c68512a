"""Tests of YAML that means something else than it seems: numbers, keys that stand twice, merge keys and anchors."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.live_config import LiveConfig
from tests.support.written_config import SCALING, USER_CONFIG, WRITTEN_OUT, changed, faults_of

ANY_VALUE = re.compile(r"^( +(?:- )?\w+: )([^\s#].*?)( #.*)?$", re.MULTILINE)
NUMBER = re.compile(r"[\d.]+")


def paths(value: Any, wanted: type, path: str = "") -> Iterator[str]:
    """Return the paths of all values of one type in a document, except those inside lists."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, wanted, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, inner in enumerate(value):
            yield from paths(inner, wanted, f"{path}.{number}")
    elif isinstance(value, wanted) and not isinstance(value, bool):
        yield path


@pytest.mark.parametrize(
    "form",
    [
        "yes",
        "on",
        "true",
        "False",
        "'8'",
        '"8"',
        ".nan",
        ".inf",
        "-.INF",
        "010",
        "1:30",
        "",
        "[8]",
        "{a: 8}",
        "1e3",
        "8s",
    ],
)
def test_what_is_no_plain_number_is_told_at_every_number(tmp_path: Path, form: str) -> None:
    """A value that YAML does not read as a plain number is an error at every numeric setting."""
    numbers = set(paths(yaml.safe_load(WRITTEN_OUT), int)) | set(paths(yaml.safe_load(WRITTEN_OUT), float))
    text = ANY_VALUE.sub(lambda found: found[1] + form if NUMBER.fullmatch(found[2]) else found[0], WRITTEN_OUT)
    assert len(numbers) >= 25
    assert numbers <= set(faults_of(tmp_path, text))


@pytest.mark.parametrize("form", ["12:30:45", "0.5", "2026-01-01", "8_0.5"])
def test_what_is_no_whole_number_is_told_where_one_belongs(tmp_path: Path, form: str) -> None:
    whole = {f"{USER_CONFIG}.{key}" for key, field in LiveConfig.model_fields.items() if field.annotation is int}
    whole |= {"http_options.port", f"{SCALING}.min_replicas", f"{SCALING}.max_replicas"}
    text = ANY_VALUE.sub(lambda found: found[1] + form if NUMBER.fullmatch(found[2]) else found[0], WRITTEN_OUT)
    assert whole <= set(faults_of(tmp_path, text))


def test_every_key_that_stands_twice_is_told(tmp_path: Path) -> None:
    """A key that is written twice is an error at every level; the message names both lines."""
    doubled = ANY_VALUE.sub(lambda found: f"{found[0]}\n{found[1].replace('- ', '  ')}{found[2]}", WRITTEN_OUT)
    every = {path for kind in (int, float, str, bool) for path in paths(yaml.safe_load(WRITTEN_OUT), kind)}
    told = faults_of(tmp_path, doubled)
    assert every <= set(told)
    assert "in lines" in told["http_options.port"]
    for level, text in {
        "http_options": f"{WRITTEN_OUT}\nhttp_options:\n  host: 0.0.0.0\n",
        "applications": f"{WRITTEN_OUT}\napplications: [{{import_path: a:b}}]\n",
        "applications.0.args": changed("    deployments:\n", "    args: {}\n    deployments:\n"),
        USER_CONFIG: changed("        max_queued_requests", "        user_config: {}\n        max_queued_requests"),
        "http_options.port": changed("http_options:\n", "http_options: {port: 1, port: 2}\nproxy_location:\n").replace(
            "  host: 127.0.0.1\n  port: 8000\n", ""
        ),
        "http_options.host": changed("  port: 8000", '  port: 8000\n  "host": 0.0.0.0'),
    }.items():
        assert "it stands twice" in faults_of(tmp_path, text).get(level, ""), level


def test_merge_keys_and_anchors_are_sound(tmp_path: Path) -> None:
    """YAML anchors and merge keys are accepted, also where a key is both written here and merged in."""
    text = changed(
        "        health_check_period_s: 1",
        "        <<: &health {health_check_period_s: 3}\n        health_check_period_s: 1",
    )
    assert faults_of(tmp_path, text) == {}
    text = (
        changed("          max_batch_size: 32", "          max_batch_size: &most 32")
        .replace("          top_k: 5", "          top_k: 5\n          max_images_per_request: *most")
        .replace("          max_images_per_request: 256\n", "")
    )
    assert faults_of(tmp_path, text) == {}
