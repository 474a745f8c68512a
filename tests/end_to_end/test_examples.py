"""Tests of the examples in README.md: each is run as written, against a running service."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.repository import ROOT
from tests.support.running_service import Service

README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"^(?:\$ )?(curl .*?)(?: +#.*)?$", README, re.MULTILINE)
CAT = ROOT / "examples/chelsea.jpg"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the files that the examples name."""
    for name in ("photo.jpg", "one.jpg", "two.png", "examples/chelsea.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(CAT, tmp_path / name)
    return tmp_path


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("command", COMMANDS)
def test_each_curl_command_gets_predictions(service: Service, folder: Path, command: str) -> None:
    """Each curl command gets predictions, with a photograph's base64 in the place of `<base64>`."""
    command = command.replace("http://127.0.0.1:8000", service.url)
    encoded = command.replace("<base64>", base64.b64encode(CAT.read_bytes()).decode())
    done = subprocess.run(["bash", "-s"], input=encoded, cwd=folder, capture_output=True, text=True, check=True)  # noqa: S607
    answer = json.loads(done.stdout)
    results = answer.get("results", [answer])
    assert {result["predictions"][0]["label"] for result in results} == {"Egyptian cat"}


def test_the_client_in_python_gets_the_label(
    service: Service, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client in Python gets the label; tests/pipeline/test_script.py runs the part with the engine."""
    (program,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    client, _, _ = program.partition("with Engine")
    monkeypatch.chdir(folder)
    exec(client.replace("http://127.0.0.1:8000", service.url), {})  # noqa: S102 - the example of README.md
    assert capsys.readouterr().out == "Egyptian cat\n"


def test_the_example_of_an_answer_is_what_comes(service: Service, folder: Path) -> None:
    """The example of an answer is the real one, score included, as the same pixels are computed everywhere."""
    (shown,) = re.findall(r"^(\{\"model\".*\})$", README, re.MULTILINE)
    answer = service.client.post("/predict?top_k=1", files={"image": (folder / "photo.jpg").read_bytes()}).json()
    (given,), (expected,) = answer["results"][0]["predictions"], json.loads(shown)["results"][0]["predictions"]
    assert given == {**expected, "score": pytest.approx(expected["score"], abs=0.01)}
