"""Tests of the check that the replicas of all applications can be placed on one machine."""

from typing import Any

import pytest

from deployments.checks.placement import placement_fault
from harness.local_service import Document, shipped_config


def _applications(*args: Any, **deployment: Any) -> Document:
    deployments = [{"name": "Model", **deployment}]
    return {
        "applications": [
            {"name": f"m{n}", "import_path": "deployments.app:build_app", "args": each, "deployments": deployments}
            for n, each in enumerate(args)
        ]
    }


@pytest.mark.parametrize("name", ["serve_config.yaml", "serve_config.multi.yaml", "serve_config.gpu.yaml"])
def test_the_shipped_files_can_be_placed_on_two_cores(name: str) -> None:
    """The shipped files can be placed on a laptop of two cores; the one for a GPU is left to Ray."""
    assert placement_fault(shipped_config(name), 2, may_have_gpu=False) is None


def test_the_shipped_applications_never_take_the_place_of_one_another() -> None:
    """All replicas that autoscaling may start fit on two cores together, so a dead replica can always be replaced."""
    applications = shipped_config("serve_config.multi.yaml")["applications"]
    scaled = [each["deployments"][0]["autoscaling_config"]["max_replicas"] for each in applications]
    assert sum(most * each["args"]["num_cpus"] for most, each in zip(scaled, applications, strict=True)) == 2


def test_what_cannot_be_placed_is_told_with_what_to_write() -> None:
    says = placement_fault(_applications({}, {}), 2, may_have_gpu=False)
    assert says == (
        "the replicas reserve 4 CPUs together (m0 2, m1 2), and this machine has 2: not all can be placed; write "
        "num_cpus: 1 under args of each application"
    )
    assert "write num_cpus: 0.6 under" in str(placement_fault(_applications({}, {}, {}), 2, may_have_gpu=False))


@pytest.mark.parametrize(
    ("args", "deployment", "cpus", "fits"),
    [
        ({}, {}, 1, True),  # a replica takes what there is
        ({"num_cpus": 3}, {}, 2, False),
        ({"num_cpus": 1}, {"num_replicas": 3}, 2, False),
        ({"num_cpus": 1}, {"num_replicas": "auto"}, 1, True),
        ({"num_cpus": 1}, {"autoscaling_config": {"min_replicas": 3}}, 2, False),
        ({"num_cpus": 1}, {"autoscaling_config": {"min_replicas": 0, "max_replicas": 9}}, 1, True),
        ({"num_cpus": 3, "pipeline": {"device": "cuda"}}, {}, 2, True),  # Ray knows the cores that come with the GPU
        ({"num_cpus": "3"}, {}, 2, True),  # a fault of its own
    ],
)
def test_the_least_replicas_have_to_fit(args: Document, deployment: Document, cpus: int, *, fits: bool) -> None:
    assert (placement_fault(_applications(args, **deployment), cpus, may_have_gpu=False) is None) is fits


def test_device_auto_may_find_a_gpu() -> None:
    """The reservations of `device: auto` are unknown on a machine that may have a GPU."""
    assert placement_fault(_applications({}, {}), 2, may_have_gpu=True) is None
    assert placement_fault(_applications(*[{"pipeline": {"device": "cpu"}}] * 2), 2, may_have_gpu=True)
