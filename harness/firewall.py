"""A firewall on an imitated machine: other machines reach only the ports that are let in. Needs nftables."""

from collections.abc import Sequence
from typing import Final

from harness.machines import Machine

_RULES: Final = """
table inet filter {{
  counter refused {{ }}
  chain input {{
    type filter hook input priority 0; policy drop;
    iif lo accept
    ct state established,related accept
    tcp dport {{ {ports} }} accept
    counter name refused drop
  }}
}}
"""


def let_in(machine: Machine, ports: Sequence[str]) -> None:
    """Drop all packets from other machines but those to these TCP ports, and those of connections from here.

    Args:
        machine: the machine.
        ports: ports, or ranges as in "30000-31000".

    Raises:
        OSError: `nft` failed.
    """
    done = machine.run(["nft", "-f", "-"], {}, stdin=_RULES.format(ports=", ".join(ports)))
    if done.returncode:
        raise OSError(f"nft: {done.stderr.strip()}")
