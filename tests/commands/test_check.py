"""Tests of `darkroom check`: every error of a configuration, or the meaning of its values."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands.settings import explained, unit_of, written
from deployments.live_config import LiveConfig
from deployments.service_config import ServiceConfig
from harness.local_service import Document, shipped_config
from harness.repository import ROOT
from pipeline.config import PipelineConfig
from pipeline.live_limits import Limits
from tests.support.typed import typed


def checked(folder: Path, document: Document) -> list[str]:
    """Return the lines that are printed about a configuration with errors."""
    (folder / "a.yaml").write_text(yaml.safe_dump(document))
    said = typed("check", folder / "a.yaml")
    assert said.exit_code == 1
    assert said.stdout == ""
    return [line.removeprefix(f"darkroom: {folder / 'a.yaml'}: ") for line in said.stderr.splitlines()]


def test_the_shipped_configuration_is_sound() -> None:
    """The shipped configuration is valid.

    Each Darkroom setting has a line with its value, unit, default and meaning.
    """
    said = typed("check", ROOT / "serve_config.yaml", "--no-model")
    assert (said.exit_code, said.stderr) == (0, "")
    lines = [line.split() for line in said.stdout.splitlines()]
    for model in (PipelineConfig, ServiceConfig, LiveConfig):
        for key in model.model_fields:
            assert key == "pipeline" or any(line[:1] == [key] for line in lines), key
    assert ["max_top_k", "10", "classes", "100"] in [line[:4] for line in lines]
    assert ["decode_timeout_s", "10", "s", "same"] in [line[:4] for line in lines]


def test_the_configuration_for_a_gpu_is_sound() -> None:
    """The configuration for a GPU is valid, also when it is checked on a machine without a GPU."""
    said = typed("check", ROOT / "serve_config.gpu.yaml", "--no-model")
    assert (said.exit_code, said.stderr) == (0, "")
    assert ["replicas_per_gpu", "8", "replicas", "1"] in [line.split()[:4] for line in said.stdout.splitlines()]


def test_it_loads_no_torch_and_starts_no_ray() -> None:
    """A check of the file alone imports no torch and starts no Ray, so it takes a second or two."""
    program = (
        "import sys, commands.main, ray\n"
        "try: commands.main.app(['check', '--no-model'])\n"
        "except SystemExit: print('torch' in sys.modules, ray.is_initialized(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "False False\n"


def test_all_faults_are_listed(tmp_path: Path) -> None:
    """One check lists all errors of Serve's settings and of Darkroom's, each with the path of its key."""
    document: Any = shipped_config()
    application = document["applications"][0]
    deployment = application["deployments"][0]
    document["http_options"]["port"] = "eight"
    deployment["max_queued_request"] = 1
    deployment["autoscaling_config"]["max_replicas"] = "many"
    application["args"]["pipeline"]["decoed"] = "fast"
    application["args"]["top_k"] = 5
    deployment["user_config"]["max_queue_wait_s"] = -1
    lines = checked(tmp_path, document)
    inner = "applications.0.deployments.0"
    assert f"{inner}.max_queued_request: no such key; did you mean max_queued_requests?" in lines
    assert "applications.0.args.pipeline.decoed: no such key; did you mean decode?" in lines
    assert "applications.0.args.top_k: no such key here; it stands under user_config" in lines
    assert f"{inner}.user_config.max_queue_wait_s: Input should be greater than 0, not -1" in lines
    assert "http_options.port: 'eight' is no port; write a number from 1 to 65535, e.g. 8000" in lines
    assert f"{inner}.autoscaling_config.max_replicas: 'many' is text; write a number, without quotes" in lines
    assert len(lines) == 6


def test_a_key_that_resembles_none_gets_no_suggestion(tmp_path: Path) -> None:
    document: Any = shipped_config()
    document["applications"][0]["args"]["qqqq"] = 1
    assert checked(tmp_path, document) == ["applications.0.args.qqqq: no such key"]


def test_args_and_user_config_are_held_against_each_other(tmp_path: Path) -> None:
    """Every value in user_config that contradicts args is listed, not only the first."""
    document: Any = shipped_config()
    user_config = document["applications"][0]["deployments"][0]["user_config"]
    user_config.update(top_k=50, max_batch_size=1024, max_image_bytes=1 << 26, max_request_bytes=1 << 25)
    user_config["max_bytes_in_flight"] = 1
    lines = checked(tmp_path, document)
    assert all(line.startswith("applications.0.deployments.0.user_config: ") for line in lines)
    for says in (
        "top_k: 50 is above max_top_k: 10",
        "above the largest of batch_sizes",
        "can never be filled with single images",
        "do not fit into max_request_bytes",
        "do not fit into max_bytes_in_flight",
    ):
        assert sum(says in line for line in lines) == 1
    assert len(lines) == 5


def test_args_are_held_against_the_usual_user_config_where_none_is_written(tmp_path: Path) -> None:
    """Without `deployments` a start takes the usual user_config, which has to fit too."""
    document: Any = shipped_config()
    application = document["applications"][0]
    del application["deployments"]
    application["args"]["pipeline"]["max_top_k"] = 3
    (line,) = checked(tmp_path, document)
    assert line.startswith("applications.0.args: top_k: 5 is above max_top_k: 3; write")


def test_a_deployment_that_darkroom_does_not_have_is_named(tmp_path: Path) -> None:
    """An unknown deployment name is an error of the check; Serve would report it after half a minute."""
    document: Any = shipped_config()
    document["applications"][0]["deployments"][0]["name"] = "Modle"
    assert checked(tmp_path, document) == [
        "applications.0.deployments.0.name: Darkroom has no deployment 'Modle'; write Model"
    ]


def test_a_deployment_that_stands_there_twice_is_named(tmp_path: Path) -> None:
    """A deployment that is listed twice is an error; Serve itself accepts it."""
    document: Any = shipped_config()
    document["applications"][0]["deployments"] *= 2
    assert checked(tmp_path, document) == [
        "applications.0.deployments.1: Model stands here once more; write all its settings in one place"
    ]


def test_a_part_of_a_gpu_is_asked_for_in_one_place(tmp_path: Path) -> None:
    """A share of a GPU is set by gpu_share or replicas_per_gpu.

    Serve's num_gpus would give each of four replicas the workers for all cores.
    """
    document: Any = shipped_config()
    application = document["applications"][0]
    application["deployments"][0]["ray_actor_options"] = {"num_gpus": 0.25}
    assert checked(tmp_path, document) == [
        "applications.0.deployments.0.ray_actor_options.num_gpus: 0.25 does not change how many workers a replica has; "
        "write gpu_share under args instead, or decode_workers under args.pipeline as well"
    ]
    application["args"]["pipeline"]["decode_workers"] = 3
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(document))
    assert typed("check", tmp_path / "a.yaml", "--no-model").exit_code == 0


def test_keys_that_open_the_service_are_looked_at(tmp_path: Path) -> None:
    document: Any = shipped_config()
    document["applications"][0]["args"]["api_keys_file"] = str(tmp_path / "keys")
    (line,) = checked(tmp_path, document)
    assert str(tmp_path / "keys") in line


@pytest.mark.parametrize(
    "text", ["", "applications: []", "applications: [", "[1]", "applications: {a: 1}", "\xff", None]
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, text: str | None) -> None:
    config = tmp_path / "a.yaml"
    if text is not None:
        config.write_text(text, "latin-1")
    said = typed("check", config)
    assert said.exit_code == 1
    assert said.stderr.startswith("darkroom: ")
    assert "a.yaml" in said.stderr
    assert said.stderr.count("\n") == 1


def test_applications_of_others_are_held_against_serve_alone(tmp_path: Path) -> None:
    """Applications other than Darkroom's, and entries that are no application, are checked by Serve's rules alone."""
    config = tmp_path / "a.yaml"
    config.write_text("applications: [{name: b, route_prefix: /, import_path: a:b, args: {c: 1}}]\n")
    said = typed("check", config)
    assert (said.exit_code, said.stdout.splitlines()[-1]) == (0, f"{config} is sound.")
    lines = checked(tmp_path, {"applications": [1, {"import_path": "deployments.app:build_app", "deployments": [2]}]})
    assert any(line.startswith("applications.0: ") for line in lines)
    assert any(line.startswith("applications.1.deployments.0: ") for line in lines)


@pytest.mark.parametrize("model", [PipelineConfig, Limits, LiveConfig, ServiceConfig])
def test_every_setting_says_what_it_means(model: type[Limits]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_every_number_has_a_unit() -> None:
    settings = [*explained(PipelineConfig()), *explained(LiveConfig()), *explained(ServiceConfig())]
    numbers = [each.key for each in settings if isinstance(each.value, int | float) and not each.unit]
    assert numbers == []
    assert unit_of("max_bytes_in_flight") == "bytes"
    assert unit_of("decode") == ""


def test_values_are_written_as_in_yaml() -> None:
    """Values are printed as in YAML; a value that is not set is printed as `-`."""
    assert [written(value) for value in (None, (1, 2.5), 10.0, "fast")] == ["-", "[1, 2.5]", "10", "fast"]
