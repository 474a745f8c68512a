"""Tests of the models that `darkroom check` builds: what it prints about them, and what it must not do."""

import socket
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from commands.without_network import NetworkRefused, without_network
from harness.local_service import Document, shipped_config
from harness.repository import ROOT
from tests.support.typed import typed

CAT = ROOT / "examples/chelsea.jpg"


def written(folder: Path, document: Document, **pipeline: Any) -> Path:
    """Write a configuration with these settings of the pipeline; return its path."""
    document["applications"][0]["args"]["pipeline"].update(pipeline)
    (folder / "a.yaml").write_text(yaml.safe_dump(document))
    return folder / "a.yaml"


def test_a_model_is_described_and_answers(tmp_path: Path) -> None:
    """Each model is built and described, and labels the image with the usual parameters of its application."""
    config = written(tmp_path, shipped_config("serve_config.multi.yaml"))
    said = typed("check", config, "--application", "fast", "--image", CAT)
    assert (said.exit_code, said.stderr) == (0, "")
    facts = said.stdout.partition("applications.0 (fast): the model")[2]
    lines = {line[:13].strip(): line[13:].strip() for line in facts.splitlines()}
    assert lines["parameters"] == "3,504,872, in 14.2 MB with buffers"
    assert lines["transform"].startswith("resize_px 256, crop_px 224, bilinear")
    assert lines["workers make"] == "uint8 [224, 224, 3]"
    assert lines["module"].endswith("[2, 3, 224, 224] -> float32 [2, 1000]")
    assert lines["head"].startswith("Classify; 1000 labels (tench, goldfish, great white shark, ...); top_k: 5")
    assert "Egyptian cat" in lines["answer"]
    assert "(exact)" not in facts
    assert f"{config} is sound." in facts
    assert not ray.is_initialized()


def test_an_image_without_a_prediction_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"hello")
    said = typed("check", written(tmp_path, shipped_config(), runtime="torch"), "--image", tmp_path / "photo.jpg")
    assert said.exit_code == 1
    assert "answer        none. Unsupported format: " in said.stdout
    assert f"applications.0 (darkroom): {tmp_path / 'photo.jpg'} has no prediction" in said.stderr


def test_weights_are_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are not on this machine are a fault; a start would fetch them, a check does not.

    It does not ask a proxy for them either, though that is on this machine.
    """
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    said = typed("check", written(tmp_path, shipped_config(), model="shufflenet_v2_x0_5"))
    assert said.exit_code == 1
    (line,) = [line for line in said.stderr.splitlines() if line.startswith("darkroom: ")]  # torch says what it fetches
    assert "weights: IMAGENET1K_V1 of shufflenet_v2_x0_5 are not in" in line
    assert "as a check does not use the network" in line
    url = f"https://example.org/birds.onnx#sha256={'0' * 64}"
    said = typed("check", written(tmp_path, shipped_config(), model=url))
    assert "model: https://example.org/birds.onnx is not on this machine yet; a start fetches it to" in said.stderr


def test_only_other_machines_are_out_of_reach() -> None:
    """Connections to other machines and look-ups of their names are refused; sockets of this machine work."""
    with socket.create_server(("127.0.0.1", 0)) as server, without_network():
        socket.create_connection(server.getsockname(), timeout=5).close()
        for ask in (lambda: socket.getaddrinfo("example.org", 80), lambda: socket.create_connection(("192.0.2.1", 80))):
            with pytest.raises(NetworkRefused, match="a check does not use the network"):
                ask()
    assert socket.getaddrinfo("localhost", 80)


def test_a_model_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    said = typed("check", written(tmp_path, shipped_config()), "--timeout-s", "0.1")
    assert said.exit_code == 1
    assert said.stderr == "darkroom: darkroom: the model was not built within 0.1 s (--timeout-s)\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--application", "cats"], "there is no application 'cats' to choose; there is darkroom"),
        (["--image", "nowhere.jpg"], "nowhere.jpg: it cannot be read: No such file or directory"),
    ],
)
def test_options_that_cannot_be_used_are_told(options: list[str], says: str) -> None:
    said = typed("check", ROOT / "serve_config.yaml", *options)
    assert (said.exit_code, said.stderr) == (2, f"darkroom: {says}\n")
