"""Rates and memory by batch size, workers and size of images. `make scaling` runs it.

Without HTTP: rates of Darkroom's engine with the stand-in device, compared with the limit measured before and after
each, and of the model alone. With HTTP: memory of a replica of the shipped configuration.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

import psutil
import torch

from benchmarks import alone
from benchmarks.bench import Limited
from benchmarks.limit import Limit
from benchmarks.work import SMALL, Work
from harness.circumstances import circumstances
from harness.command import Facts, parser_of, publish, run, say
from harness.load import closed_loop
from harness.local_service import local_service, shipped_config
from harness.roles import REPLICA, WORKER, role_of, with_role
from harness.target import image_body
from harness.timing import seconds_of
from pipeline.config import PipelineConfig
from pipeline.model.agreement import noise
from pipeline.model.device_module import DeviceModule
from pipeline.model.source import load_model
from pipeline.model.torchscript import as_graph

BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SIZES_PX: Final = ((365, 274), (500, 375), (1155, 866), (2000, 1500), (4032, 3024), (5774, 4330))
"""Widths and heights: 0.1, 0.2, 1, 3, 12 and 25 megapixels."""

MEASURED_FOR_S: Final = 2.0
HEADER: Final = ("what", "of", "images/s", "of the limit", "ms an image", "MiB")


def batches(rounds: int) -> Iterator[Facts]:
    """Measure the model alone on one core, by batch size."""
    torch.set_num_threads(1)
    loaded = load_model(PipelineConfig())
    spec = loaded.preprocess.input_spec
    compute = as_graph(DeviceModule.of(loaded), spec)
    pixels = noise(BATCH_SIZES[-1], spec, seed=0)
    with torch.inference_mode():
        for size in BATCH_SIZES:
            taken_s = statistics.median(seconds_of(partial(compute, pixels[:size]), runs=rounds))
            yield {"what": "batch", "of": size, "per_s": size / taken_s, "ms": 1000 * taken_s / size}


def workers(limit: Limited, cores: int, rounds: int) -> Iterator[Facts]:
    """Measure the engine by number of workers, and the private memory of each worker."""
    for count in range(1, cores + 1):
        with alone.pipeline(workers=count) as rate:
            shown = _share(lambda rate=rate: rate(SMALL.images, MEASURED_FOR_S), limit, SMALL.images, count, rounds)  # type: ignore[misc]
            yield {"what": "workers", "of": count, **shown, "mib": statistics.mean(map(_own_mib, own_workers()))}


def sizes(limit: Limited, cores: int, rounds: int) -> Iterator[Facts]:
    """Measure the engine on all cores, by image size."""
    with alone.pipeline() as rate:
        for size_px in SIZES_PX:
            images = Work("", (size_px,), 1, together=1, clients=1).images
            shown = _share(lambda images=images: rate(images, MEASURED_FOR_S), limit, images, cores, rounds)  # type: ignore[misc]
            yield {"what": "megapixels", "of": round(size_px[0] * size_px[1] / 1e6, 1), **shown}


def replica(rounds: int) -> Iterator[Facts]:
    """Measure the memory of a replica with all its processes under increasing load, as proportional set size (PSS)."""
    with local_service(shipped_config(), say) as service:
        forms = [image_body(image) for image in SMALL.images]
        for run_number in range(1, rounds + 1):
            load = closed_loop(service.target, forms, clients=8, warm_up_s=MEASURED_FOR_S, for_s=5 * MEASURED_FOR_S)
            (head,) = with_role(service.run, REPLICA)
            family = [head, *head.children(recursive=True)]
            pss = sum(process.memory_full_info().pss for process in family)
            yield {
                "what": "replica, run",
                "of": run_number,
                "per_s": load.per_s,
                "ms": 1000 / load.per_s,
                "mib": pss / 2**20,
            }


def _share(measure: Callable[[], float], limit: Limited, images: Sequence[bytes], workers: int, rounds: int) -> Facts:
    """Compute medians of a rate, and of its share of the limits around it, on as many cores as workers."""
    rates, shares = list[float](), list[float]()
    measure()  # warms it up
    before = limit.per_s(images, for_s=MEASURED_FOR_S / 2, clients=workers)
    for _ in range(rounds):
        rates.append(measure())
        after = limit.per_s(images, for_s=MEASURED_FOR_S / 2, clients=workers)
        shares.append(2 * rates[-1] / (before + after))
        before = after
    per_s = statistics.median(rates)
    return {"per_s": per_s, "of_limit": statistics.median(shares), "ms": 1000 / per_s}


def own_workers() -> list[psutil.Process]:
    """List the decode workers of the engines in this process."""
    return [process for process in psutil.Process().children(recursive=True) if role_of(process) == WORKER]


def _own_mib(process: psutil.Process) -> float:
    """Measure the memory that the end of a process would free (USS), without the shared slots."""
    maps = (part for part in process.memory_maps() if not part.path.startswith("/memfd:"))
    return float(sum(part.private_clean + part.private_dirty for part in maps)) / 2**20


def rows(records: Sequence[Facts]) -> list[list[str]]:
    """Make the table's rows."""

    def cell(record: Facts, name: str, form: str) -> str:
        return format(record[name], form) if name in record else ""

    return [
        [
            record["what"],
            str(record["of"]),
            f"{record['per_s']:.1f}",
            cell(record, "of_limit", ".2f"),
            f"{record['ms']:.2f}",
            cell(record, "mib", ".0f"),
        ]
        for record in records
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = parser_of("benchmarks.scaling", __doc__)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each row (3)")
    options = parser.parse_args(arguments)
    about, records = circumstances("benchmarks.scaling", arguments), list[Facts]()
    with Limit() as limit:
        for part in (
            workers(limit, about["cores"], options.rounds),
            sizes(limit, about["cores"], options.rounds),
            batches(options.rounds),
            replica(options.rounds),
        ):
            for record in part:
                records.append(record)
                say(str(record))
    publish("scaling", about, records, HEADER, rows(records))
    return 0


if __name__ == "__main__":
    run(main)
