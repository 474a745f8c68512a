"""Several applications in one service: serve_config.multi.yaml, where one has keys and origins, with two more.

`broken` fails at its start, and `pets` is the example of a model of one's own.
"""

from pathlib import Path
from typing import Final

from harness.local_service import Document, shipped_config
from tests.support.keys import KEY, OTHER, keys_file
from tests.support.tiny import APPLICATION

ORIGINS: Final = ("https://example.org", "http://127.0.0.1:3000")
"""Web pages of these may call the application `exact`."""

BROKEN: Final[Document] = {
    "name": "broken",
    "route_prefix": "/models/broken",
    "import_path": "tiny:build",
    "args": {"fails": True, "leaves": False},
    "deployments": [{"name": "Service", "ray_actor_options": {"num_cpus": 0}}],
}
PETS: Final[Document] = {
    "name": "pets",
    "route_prefix": "/models/pets",
    "import_path": "deployments.app:build_app",
    "args": {"num_cpus": 0, "pipeline": {"model": "examples.pets:build", "model_args": {"seed": 7}}},
    "deployments": [{"name": "Model", "user_config": {}}],
}
"""The application of examples/serve_config.yaml."""

EXACT_AT: Final = 2
"""Position of the application with keys and origins."""


def several_config(folder: Path) -> Document:
    """Make the configuration: `broken`, `fast`, `exact`, `pets`; write its key file and `tiny.py` into the folder."""
    (folder / "tiny.py").write_text(APPLICATION)
    config = shipped_config("serve_config.multi.yaml")
    for shipped in config["applications"]:
        shipped["args"]["pipeline"]["runtime"] = "torch"  # to compare runtimes would take a quarter of the start
    config["applications"] = [BROKEN, *config["applications"], PETS]
    arguments = config["applications"][EXACT_AT]["args"]
    arguments["api_keys_file"] = str(keys_file(folder, f"{KEY}\n{OTHER}\n"))
    arguments["cors_origins"] = list(ORIGINS)
    return config
