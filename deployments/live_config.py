"""Settings that can change without a restart: `user_config`."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from pipeline.config import HEAD_PARAMETERS
from pipeline.head_parameters import Parameter, Value
from pipeline.live_limits import Limits

HEAD_SETTINGS: Final = frozenset(name for names in HEAD_PARAMETERS.values() for name in names)
"""Parameters of Darkroom's own heads; each is a setting of `LiveConfig`."""


class LiveConfig(Limits):
    """Settings that can change without a restart: `user_config`."""

    renamed = {"max_wait_s": "max_queue_wait_s", "batch_wait_s": "batch_window_s"}  # noqa: RUF012 - a ClassVar of its base

    batch_window_s: float = Field(
        0.0, ge=0, le=1, description="how long @serve.batch waits for more requests; later stages form batches again"
    )
    top_k: int = Field(5, ge=1, description="classes in an answer, unless the request says how many (head: classify)")
    threshold: float | None = Field(
        None, ge=0, le=1, description="least score of a class in an answer, unless the request says (head: multilabel)"
    )
    score_threshold: float | None = Field(
        None, ge=0, le=1, description="least score of an object in an answer, unless the request says (head: detect)"
    )
    encoding: Literal["json", "base64"] | None = Field(
        None, description="form of a vector in an answer, unless the request says (head: embed)"
    )
    parameters: dict[str, int | float | str] = Field(
        {}, description="the same for the parameters of a head of your own, by name"
    )
    max_request_bytes: int = Field(128 << 20, ge=1, description="bytes of a request's body")
    max_images_per_request: int = Field(256, ge=1, description="images of one request")
    max_request_work_s: float = Field(
        20.0, gt=0, description="predicted seconds of one core to decode all images of a request; more is refused"
    )
    body_timeout_s: float = Field(60.0, gt=0, description="a body that takes longer to arrive is refused")
    min_body_bytes_per_s: int = Field(
        1000, ge=1, description="a body that arrives more slowly is refused, after a grace of 5 s"
    )
    request_timeout_s: float = Field(
        120.0, gt=0, description="time limit to answer a request; the header X-Request-Timeout-Ms shortens it"
    )
    max_queue_wait_s: float = Field(10.0, gt=0, description="a request whose images would wait longer is refused")
    max_bytes_in_flight: int = Field(512 << 20, ge=1, description="bytes of all bodies in work in a replica")

    @property
    def head_values(self) -> dict[str, Value]:
        """Values of the head's parameters that the user has set, by name."""
        own: dict[str, Value | None] = {name: getattr(self, name) for name in self.model_fields_set & HEAD_SETTINGS}
        return {name: value for name, value in own.items() if value is not None} | self.parameters

    def of_head(self, known: Mapping[str, Parameter]) -> dict[str, Value]:
        """Return the values of the head's parameters that a request leaves out, by name.

        Args:
            known: the parameters of the model's head, by name.
        """
        return {name: parameter.default for name, parameter in known.items()} | {
            name: value for name, value in self.head_values.items() if name in known
        }

    def head_faults(self, known: Mapping[str, Parameter], head: str) -> list[str]:
        """List the values of parameters that a head does not have or does not allow, each with a correction.

        Args:
            known: the parameters of the head, by name.
            head: name of the head, for the message.
        """
        return [
            f"{name}: {value} is not {known[name].allowed}; write one that is, or leave it out"
            if name in known
            else no_such_parameter(name, value, head, known)
            for name, value in self.head_values.items()
            if name not in known or not known[name].allows(value)
        ]

    @model_validator(mode="after")
    def _has_each_parameter_once(self) -> Self:
        if twice := sorted(HEAD_SETTINGS & {*self.parameters}):
            raise ValueError(f"parameters.{twice[0]} is a setting of its own; write {twice[0]}: under user_config")
        return self


def no_such_parameter(name: str, value: Value, head: str, known: Iterable[str]) -> str:
    """Return a sentence about a value that the user has set, and that the head has no parameter for."""
    has = f"it has {', '.join(known)}" if known else "it has none"
    return f"{name}: {value} is set, and the head in service, {head}, has no such parameter ({has}); remove {name}"
