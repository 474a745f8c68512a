"""Ray's command `serve` for one file, after a check of all its settings, including Serve's own.

Serve ignores most unknown keys, and accepts `yes` for a port. The check of Serve's own settings imports Ray, which
takes seconds and memory: this process needs Ray anyway, the launcher does not.
"""

import os
import sys
from pathlib import Path

from deployments.checks.configuration import read_configuration
from deployments.checks.serve_faults import all_faults
from deployments.checks.start_error import StartError


def main() -> int:
    """Run `serve run ... FILE`; if the file has faults, print one line for each and return 1."""
    path = Path(sys.argv[-1])
    try:
        faults = [f"{path}: {fault}" for fault in read_configuration(path).faults(os.environ, all_faults)]
    except StartError as error:
        faults = [str(error)]
    if faults:
        sys.stderr.write("".join(f"darkroom: {fault}\n" for fault in faults))
        return 1
    # Ray adds the folder of this script to the path of its workers, where its modules could hide libraries.
    sys.argv[0] = str(Path(sys.executable).with_name("serve"))
    from ray.serve.scripts import cli

    cli()
    return 0


if __name__ == "__main__":
    sys.exit(main())
