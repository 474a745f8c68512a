"""Tests of the choice of one application in a configuration of several."""

import pytest

from deployments.checks.chosen_application import NotChosen, chosen_application
from harness.local_service import shipped_config
from harness.repository import ROOT
from tests.support.typed import typed

SEVERAL = ROOT / "serve_config.multi.yaml"


def test_the_only_application_needs_no_name() -> None:
    document = shipped_config()
    document["applications"].insert(0, {"name": "other", "import_path": "other:app", "route_prefix": "/other"})
    assert chosen_application(document, None) == ("applications.1", document["applications"][1])
    assert chosen_application(shipped_config("serve_config.multi.yaml"), "exact")[0] == "applications.1"


@pytest.mark.parametrize(
    ("document", "name", "says"),
    [
        ({"applications": [{"import_path": "a:b"}]}, None, "no application has import_path: deployments.app:build_app"),
        (
            shipped_config("serve_config.multi.yaml"),
            None,
            r"2 applications \(fast, exact\); choose one by --application",
        ),
        (shipped_config("serve_config.multi.yaml"), "cats", "no application 'cats' to choose; there are fast, exact"),
        (shipped_config(), "cats", "no application 'cats' to choose; there is darkroom"),
    ],
)
def test_a_choice_that_is_not_clear_is_a_sentence(document: dict[str, object], name: str | None, says: str) -> None:
    with pytest.raises(NotChosen, match=says):
        chosen_application(document, name)


@pytest.mark.parametrize("command", ["predict", "tune"])
def test_commands_for_one_model_ask_which(command: str) -> None:
    """`darkroom predict` and `darkroom tune` do not guess an application; they end with one sentence."""
    images = [] if command == "predict" else ["--images"]
    said = typed(command, *images, ROOT / "examples/chelsea.jpg", "--config", SEVERAL)
    assert said.exit_code != 0
    assert "there are 2 applications (fast, exact); choose one by --application NAME" in said.stderr
    assert said.stderr.count("\n") == 1
