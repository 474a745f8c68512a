"""Sends requests made from `/openapi.json` and checks each answer against it. `make described` runs it.

Schemathesis makes valid requests, and invalid ones of each kind that the description forbids. Every answer must have a
status, a content type and a form that are described. A 500 is a failure.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from harness.command import parser_of, run, say
from harness.local_service import local_service, shipped_config
from harness.repository import PEERS

BINARY: Final = PEERS / "schemathesis" / "bin" / "schemathesis"
CHECKS: Final = Path(__file__).with_name("schemathesis.toml")


def command(url: str, examples: int, for_s: int) -> list[str]:
    """Return the command that checks a service at this address.

    Args:
        url: address of its OpenAPI description.
        examples: most requests of each operation and phase.
        for_s: seconds for all of them together.
    """
    bounds = ["--max-examples", str(examples), "--max-time", str(for_s), "--seed", "1", "--continue-on-failure"]
    return [str(BINARY), "--config-file", str(CHECKS), "run", url, *bounds]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status, 0 if every answer was as described."""
    parser = parser_of("tests.described", __doc__)
    parser.add_argument("--examples", type=int, default=100, help="of each operation")
    parser.add_argument("--for-s", type=int, default=120, help="seconds for each head")
    parser.add_argument("--heads", default="classify,multilabel,embed", help="heads to serve, one after the other")
    options = parser.parse_args(arguments)
    return max(_checked(head, options.examples, options.for_s) for head in options.heads.split(","))


def _checked(head: str, examples: int, for_s: int) -> int:
    say(f"head: {head}")
    with local_service(with_head(head), say) as service:
        url = f"{service.endpoint.url}/openapi.json"
        return subprocess.run(command(url, examples, for_s), check=False).returncode


def with_head(head: str) -> dict[str, Any]:
    """Return the shipped configuration with another head for its model."""
    document = shipped_config()
    settings = document["applications"][0]["args"]["pipeline"]
    settings["head"] = head
    if head != "classify":
        del settings["max_top_k"]
    return document


if __name__ == "__main__":
    run(main)
