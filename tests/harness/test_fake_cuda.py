"""Tests of the CPU that poses as a CUDA device."""

import pytest
import torch
from torch import Tensor

from harness.fake_cuda import ALREADY_REGISTERED, NOT_REGISTERED, pretend
from harness.fake_graph import MemoryFreed
from pipeline.decode.slots import Slots
from pipeline.input_spec import InputSpec


def test_torch_believes_in_the_device_only_as_long_as_it_lasts() -> None:
    real = torch.cuda.is_available()
    with pretend():
        assert torch.cuda.is_available()
        assert torch.zeros(2, device="cuda").to("cuda").sum() == 0
    assert torch.cuda.is_available() == real


def test_a_graph_runs_its_operators_again_and_no_python() -> None:
    """A replayed graph runs its operators on the current input, into the same output tensor, without Python."""
    calls = []

    def compute(x: Tensor) -> Tensor:
        calls.append(len(x))
        doubled = x.mul(2).add_(1)
        return doubled.view(-1) + x.view(-1)

    with pretend(), torch.inference_mode():
        x, graph = torch.zeros(2, 2, device="cuda"), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = compute(x)
        assert out.isnan().all()  # nothing is computed during a capture
        for value in (3.0, 5.0):
            x.fill_(value)
            graph.replay()
            assert out.tolist() == [3 * value + 1] * 4
    assert calls == [2]


def test_a_graph_does_not_keep_the_weights_alive() -> None:
    """A replay fails if memory that the capture read, here weights, has been freed meanwhile."""
    with pretend(), torch.inference_mode():
        x, weights, graph = torch.ones(2, device="cuda"), torch.full((2,), 3.0, device="cuda"), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = x * weights[:]
        graph.replay()
        assert out.tolist() == [3.0, 3.0]
        del weights
        with pytest.raises(MemoryFreed, match=r"of shape \[2\]"):
            graph.replay()


def test_what_waits_for_the_device_cannot_be_captured() -> None:
    with pretend(), torch.inference_mode():
        x, graph = torch.zeros(2, device="cuda"), torch.cuda.CUDAGraph()
        with pytest.raises(RuntimeError, match="not permitted when the stream is capturing"), torch.cuda.graph(graph):
            float(x.sum())


@pytest.mark.parametrize("waits_for", ["nothing", "an event", "the stream", "the device"])
def test_two_streams_that_do_not_wait_for_each_other_race(waits_for: str) -> None:
    with pretend() as fake:
        x, one, other, event = (
            torch.zeros(2, device="cuda"),
            torch.cuda.Stream(),
            torch.cuda.Stream(),
            torch.cuda.Event(),
        )
        with torch.cuda.stream(one):
            x + 1
            event.record()
        if waits_for == "an event":
            other.wait_event(event)
        elif waits_for == "the stream":
            other.wait_stream(one)
        elif waits_for == "the device":
            torch.cuda.synchronize()
        with torch.cuda.stream(other):
            x.fill_(7)
        assert len(fake.races) == (waits_for == "nothing"), fake.races


def test_two_streams_may_read_the_same_memory() -> None:
    with pretend() as fake:
        x = torch.zeros(2, device="cuda")
        for stream in (torch.cuda.Stream(), torch.cuda.Stream()):
            with torch.cuda.stream(stream):
                x + 1
        assert fake.races == []


def test_memory_is_page_locked_once_and_as_long_as_it_is_registered() -> None:
    slots = Slots(4, InputSpec.of_pixels(8))
    with pretend():
        runtime, address, size = torch.cuda.cudart(), slots.tensor.data_ptr(), slots.tensor.nbytes
        assert not slots.tensor.is_pinned()
        assert runtime.cudaHostRegister(address, size, 0) == 0
        assert slots.tensor[2:3].is_pinned()
        assert runtime.cudaHostRegister(address, size, 0) == ALREADY_REGISTERED
        assert runtime.cudaHostUnregister(address) == 0
        assert runtime.cudaHostUnregister(address) == NOT_REGISTERED
        assert not slots.tensor.is_pinned()
        assert torch.empty(3, pin_memory=True).is_pinned()
