"""Torch's own compiler, Inductor: the model as one program for the CPU, or as kernels for CUDA graphs.

Hazard: torch keeps what it compiles in a folder of /tmp whose name every user of the machine can foresee, and loads
code from there. Guard: another folder, which only this user may open; the launcher names one in the folder of its run.
Hazard: the compiler starts processes, which then wait for more work as long as the replica lives. Guard: there are none
for the CPU, where everything is one program; those for CUDA are ended when the graphs are recorded.
Test of both: `tests/pipeline/model/test_compiler.py::test_nothing_is_left_behind`.
"""

import atexit
import os
import shutil
import tempfile
from typing import Final

import torch
from torch import Tensor, nn

from pipeline.model.device_module import DeviceModule
from pipeline.model.torchscript import Compute

_CACHE_VARIABLE: Final = "TORCHINDUCTOR_CACHE_DIR"

_MAX_VERSIONS: Final = 64
"""Batch sizes for which kernels are compiled; torch's own limit is 8."""


def has_cpp_compiler() -> bool:
    """Return whether there is a C++ compiler for torch to call."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def compiled_for_cpu(module: DeviceModule, examples: Tensor, threads: int) -> Compute:
    """Return a program for batches of any size, which several threads may call at a time. Takes a minute or more.

    Args:
        module: the model on the CPU.
        examples: a batch, [2 or more, *shape]; of one image torch would take the size for a constant.
        threads: number of threads that call it at a time.

    Raises:
        Exception: torch cannot export or compile the model; the error may be of any class.
    """
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.package.package import load_package

    folder = _cache_folder()
    sizes = ({0: torch.export.Dim("images", min=1)},)
    with torch.no_grad():
        program = torch.export.export(_Rows(module, examples), (examples,), dynamic_shapes=sizes)
    with tempfile.TemporaryDirectory(dir=folder) as package_folder:
        path = aoti_compile_and_package(
            program,
            package_path=f"{package_folder}/model.pt2",
            inductor_configs={"compile_threads": 1},
        )
        package = load_package(path, num_runners=threads)
    return lambda pixels: tuple(package(pixels))


def compiled_for_cuda(module: DeviceModule, examples: Tensor) -> Compute:
    """Return a function that compiles kernels at the first call with a batch size, and can be recorded from then on.

    Args:
        module: the model on the device.
        examples: a batch on the device, [n, *shape].

    Raises:
        Exception: the head does not fit the model. A later call may raise whatever the compiler raises.
    """
    _cache_folder()
    compute = torch.compile(_Rows(module, examples), fullgraph=True, dynamic=False)

    def of_any_size(pixels: Tensor) -> tuple[Tensor, ...]:
        with torch._dynamo.config.patch(recompile_limit=_MAX_VERSIONS):
            rows: tuple[Tensor, ...] = compute(pixels)
        return rows

    return of_any_size


def end_compiler_processes() -> None:
    """End the processes that compile kernels for CUDA, if there are any."""
    from torch._inductor.async_compile import shutdown_compile_workers

    shutdown_compile_workers()


class _Rows(nn.Module):
    """The model without the check of its head, which torch cannot follow; the check is done here."""

    def __init__(self, module: DeviceModule, examples: Tensor) -> None:
        super().__init__()
        self.module = module
        with torch.no_grad():
            module(examples)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the head's tensors."""
        return tuple(self.module.head.on_device(self.module.outputs(pixels)).values())


def _cache_folder() -> str:
    """Return the folder in which torch keeps what it compiles; if none is named, one that is removed at the exit."""
    from torch._inductor import codecache
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(_CACHE_VARIABLE, default_cache_dir()) == default_cache_dir():  # torch sets the variable itself
        folder = os.environ[_CACHE_VARIABLE] = tempfile.mkdtemp(prefix="darkroom-compiled-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.makedirs(os.environ[_CACHE_VARIABLE], mode=0o700, exist_ok=True)
    # Precompiled headers would go to torch's own folder, whatever folder is named.
    codecache._HEADER_DIR = os.path.join(os.environ[_CACHE_VARIABLE], "precompiled_headers")
    codecache._HEADER_LOCK_DIR = os.path.join(codecache._HEADER_DIR, "locks")
    return os.environ[_CACHE_VARIABLE]
