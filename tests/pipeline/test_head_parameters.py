"""Tests of the parameters of a model's head: their values in a URL or a form, and in a configuration."""

import pytest

from pipeline.head_parameters import DecimalNumber, OneOf, Parameter, Value, WholeNumber

NUMBER, SHARE, WORD = WholeNumber(5, 1, 10), DecimalNumber(0.5, 0, 1), OneOf("json", ("json", "base64"))


@pytest.mark.parametrize(
    ("parameter", "text", "value"),
    [
        *[(NUMBER, "1", 1), (NUMBER, "0000000000010", 10)],
        *[(NUMBER, text, None) for text in ("", "0", "11", "-1", "1.0", "1e0", "\u0663", "9" * 5000)],
        *[(SHARE, "0", 0.0), (SHARE, "1", 1.0), (SHARE, ".25", 0.25), (SHARE, "2.5e-1", 0.25), (SHARE, "0.", 0.0)],
        *[(SHARE, text, None) for text in ("", ".", "1.1", "-0.1", "nan", "inf", "1e400", "0,5", "0x1", "1_0", " 1")],
        *[(WORD, "base64", "base64"), (WORD, "JSON", None), (WORD, "", None)],
    ],
)
def test_a_text_stands_for_a_value_or_none(parameter: Parameter, text: str, value: Value | None) -> None:
    """Only text that is written as in JSON and in range stands for a value."""
    assert parameter.parsed(text) == value


def test_a_configuration_has_values_of_the_right_kind() -> None:
    """A configuration may have a whole number for a decimal one; True is no number."""
    assert all(parameter.allows(parameter.default) for parameter in (NUMBER, SHARE, WORD))
    assert [NUMBER.allows(value) for value in (10, 11, 1.0, True, "1")] == [True, False, False, False, False]
    assert [SHARE.allows(value) for value in (0.3, 1, 1.1, True, "1")] == [True, True, False, False, False]
    assert [WORD.allows(value) for value in ("base64", "JSON", 1)] == [True, False, False]


def test_messages_and_schemas_name_the_values() -> None:
    allowed = [parameter.allowed for parameter in (NUMBER, SHARE, WORD)]
    assert allowed == ["a whole number from 1 to 10", "a number from 0 to 1", "json or base64"]
    assert SHARE.schema == {"type": "number", "minimum": 0, "maximum": 1}
    assert WORD.schema == {"enum": ["json", "base64"]}
