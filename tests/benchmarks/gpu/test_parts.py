"""Tests of every part that runs within seconds, on the CPU that poses as a CUDA device."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.gpu.cases import CASES, DRY_CASES, Case, chosen
from benchmarks.gpu.client_processes import together
from benchmarks.gpu.outcome import Figure
from benchmarks.gpu.part import measure_of
from benchmarks.gpu.part_setting import PartSetting
from deployments.checks.serve_faults import all_faults
from deployments.node import Node
from deployments.service_config import ServiceConfig
from harness.fake_cuda import pretend
from harness.load import Load


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replace every model by one of three layers; torch's global switches are restored afterwards."""

    def get_model(_name: str, **_: Any) -> nn.Module:
        layers = nn.Conv2d(3, 4, 9, stride=32), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 49, 12)
        return nn.Sequential(*layers)

    monkeypatch.setattr("torchvision.models.get_model", get_model)
    for backend, switch in ((torch.backends.cudnn, "benchmark"), (torch.backends.cudnn, "allow_tf32")):
        monkeypatch.setattr(backend, switch, getattr(backend, switch))
    with pretend():
        yield
    torch.compiler.set_stance("default")


@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize(
    ("part", "figures"),
    [
        ("copies", 12),
        ("waiting", 2),
        ("launching", 9),
        ("main_models", 3),
        ("compiling", 2),
        ("nvjpeg", 1),
    ],
)
def test_a_part_gives_all_its_figures(part: str, figures: int, tmp_path: Path) -> None:
    records = list(measure_of(part)(PartSetting(tmp_path, time.monotonic() + 60, dry=True)))
    assert [record for record in records if not isinstance(record, Figure)] == []
    assert len(records) == figures


@pytest.mark.parametrize("case", [*CASES, *DRY_CASES], ids=str)
def test_the_configuration_of_a_case_has_no_fault(case: Case, tmp_path: Path) -> None:
    assert all_faults(case.document(tmp_path / "resnet50.pth"), {}) == []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_replicas_of_a_case_find_room_on_one_gpu(case: Case, tmp_path: Path) -> None:
    (application,) = case.document(tmp_path / "resnet50.pth")["applications"]
    (deployment,) = application["deployments"]
    fitted = ServiceConfig.model_validate(application["args"]).fitted([Node(16, gpus=1)])
    replicas = deployment.get("num_replicas", 1)
    assert replicas * fitted.num_gpus <= 1
    assert replicas * (fitted.num_cpus or 0) <= 16


def test_cases_are_chosen_by_a_part_of_their_names() -> None:
    assert [case.name for case in chosen(CASES, ["8 replicas a GPU"])] == ["ResNet-50, float16, 8 replicas a GPU"]
    assert chosen(CASES, []) == list(CASES)


def test_loads_of_several_processes_are_one() -> None:
    one, other = Load(2.0, sent=3, took_s=[0.1, 0.2], clients_cores=0.5), Load(2.0, sent=2, took_s=[0.3], late_s=0.7)
    one.others["503"] += 1
    both = together([one, other])
    assert (both.sent, both.per_s, both.clients_cores, both.late_s) == (5, 1.5, 0.5, 0.7)
    assert both.others == {"503": 1}
