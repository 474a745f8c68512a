"""Facts of the machine: output of its programs in `facts.txt`, and the resources that torch and Ray find."""

import logging
import resource
import subprocess
from collections.abc import Iterator
from typing import Any, Final

from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting
from deployments.version import version_of
from harness.circumstances import machine

_COMMANDS: Final = (
    "date -u; uname -a; nproc; free -g; df -h / /tmp /dev/shm",
    "lscpu | grep -E 'Model name|Thread|Core|Socket|NUMA|L2|L3|MHz|Hypervisor'",
    "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max",
    "cat /proc/sys/vm/overcommit_memory /proc/sys/vm/max_map_count /sys/kernel/mm/transparent_hugepage/*enabled",
    "nvidia-smi",
    "nvidia-smi -q -d PCIE,CLOCK,PERFORMANCE | grep -vE 'N/A|^$' | head -70",
    "nvidia-smi topo -m | head -5",
    "ldconfig -p | grep -E 'nvidia-ml|libcuda\\.|nvjpeg|nvcuvid'",
    "command -v nvidia-cuda-mps-control nvcc gcc g++ nsys ncu",
)
_COMMAND_TIMEOUT_S: Final = 8.0
_PACKAGES: Final = ("torch", "torchvision", "numpy", "pillow", "ray", "simplejpeg", "starlette", "pydantic", "triton")


def facts(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Write facts.txt; yield the counts that other figures depend on."""
    told = [f"$ {command}\n{output_of(command)}" for command in _COMMANDS]
    told.append(str({name: version_of(name) for name in _PACKAGES}))
    told.append(
        f"files {resource.getrlimit(resource.RLIMIT_NOFILE)}, locked {resource.getrlimit(resource.RLIMIT_MEMLOCK)}"
    )
    (setting.out / "facts.txt").write_text("\n".join(told) + "\n")
    here = machine()
    yield Figure("cores that this process may use", here["cores"], "cores", note=here["cpu"])
    yield from setting.each(["what torch says of the GPU"], lambda _: device())
    yield from setting.each(["what Ray finds"], lambda _: ray_resources(), needs_s=10.0)


def output_of(command: str) -> str:
    """Run a shell command and return its output, errors included."""
    try:
        done = subprocess.run(
            ["bash", "-c", command],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        return f"{type(error).__name__}: {error}\n"
    return done.stdout + done.stderr


def device() -> Figure:
    """Describe the GPU as torch finds it."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("torch.cuda.is_available() is false")
    seen: Any = torch.cuda.get_device_properties(0)
    note = f"{seen.name}, compute capability {seen.major}.{seen.minor}, {seen.multi_processor_count} multiprocessors"
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return Figure("memory of the GPU", seen.total_memory / 2**30, "GiB", note=f"{note}, cuDNN {cudnn}")


def ray_resources() -> Iterator[Figure]:
    """Yield the CPUs and GPUs that Ray finds here: the resources for replicas."""
    import ray

    ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        found = ray.cluster_resources()  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()
    kept = {name: value for name, value in found.items() if not name.startswith("node:")}
    yield Figure(
        "CPUs that Ray finds", found.get("CPU", 0.0), "CPUs", note=str(kept)[:160], details={"resources": kept}
    )
    yield Figure("GPUs that Ray finds", found.get("GPU", 0.0), "GPUs")
