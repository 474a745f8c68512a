"""Tests of the values of the head's parameters for `darkroom predict`."""

import pytest

from commands.files import NothingToDo
from commands.head_values import given_parameters, head_values
from deployments.live_config import LiveConfig
from pipeline import Classify, Embed, Head, Multilabel, Segment

LIVE = LiveConfig(threshold=0.25)


def test_a_value_is_that_given_or_configured_or_usual() -> None:
    head = Multilabel("abc")
    assert head_values(head, LiveConfig(), {}) == {"threshold": 0.5}
    assert head_values(head, LIVE, {}) == {"threshold": 0.25}
    assert head_values(head, LIVE, given_parameters(["threshold=0.75"], None)) == {"threshold": 0.75}
    assert head_values(Classify("abcdefg"), LiveConfig(), {}) == {"top_k": 5}
    assert head_values(Classify("abc", top_k=2), LiveConfig(), given_parameters([], 1)) == {"top_k": 1}
    assert head_values(Segment("ab"), LiveConfig(), {}) == {}


@pytest.mark.parametrize(
    ("head", "live", "texts", "says"),
    [
        (
            Embed(),
            LiveConfig(),
            ["top_k=3"],
            "head, Embed, has no parameter top_k; its parameters: encoding",
        ),
        (Embed(), LiveConfig(), ["encoding=xml"], "encoding=xml is not json or base64"),
        (Embed(), LIVE, [], r"threshold: 0.25 is set, and the head in service, Embed, has no such .*it has encoding"),
        (Classify("ab"), LiveConfig(top_k=3), [], "top_k: 3 is not a whole number from 1 to 2"),
    ],
)
def test_what_the_head_does_not_have_is_refused(head: Head, live: LiveConfig, texts: list[str], says: str) -> None:
    with pytest.raises(NothingToDo, match=says):
        head_values(head, live, given_parameters(texts, None))
