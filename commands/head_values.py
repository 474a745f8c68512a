"""Values of the head's parameters for `darkroom predict`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from commands.files import NothingToDo
from deployments.live_config import LiveConfig
from pipeline.head_parameters import Value

if TYPE_CHECKING:
    from pipeline.model.served import Head  # not at run time: loading torch takes seconds


def given_parameters(texts: Sequence[str], top_k: int | None) -> dict[str, str]:
    """Return the parameters on the command line: their texts by name.

    Args:
        texts: values of the option --parameter.
        top_k: value of the option --top-k.

    Raises:
        NothingToDo: a text has no equals sign, or a parameter is given twice.
    """
    given = {"top_k": str(top_k)} if top_k else {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign:
            raise NothingToDo(f"--parameter {text} has no value; write --parameter {name}=VALUE")
        if name in given:
            raise NothingToDo(f"the parameter {name} is given twice, as {given[name]} and {value}; give it once")
        given[name] = value
    return given


def head_values(head: "Head", live: LiveConfig, given: Mapping[str, str]) -> dict[str, Value]:
    """Return the values of the head's parameters: those given, else those of the configuration, else the usual ones.

    Args:
        head: the head of the model.
        live: the configuration's.
        given: texts by name.

    Raises:
        NothingToDo: the head has no such parameter or does not allow the value.
    """
    known, name_of_head = head.parameters, type(head).__name__
    if faults := live.head_faults(known, name_of_head):
        raise NothingToDo("; ".join(faults))
    values = live.of_head(known)
    for name, text in given.items():
        if name not in known:
            has = ", ".join(known) or "none"
            raise NothingToDo(f"the model's head, {name_of_head}, has no parameter {name}; its parameters: {has}")
        value = known[name].parsed(text)
        if value is None:
            raise NothingToDo(f"{name}={text} is not {known[name].allowed}")
        values[name] = value
    return values
