"""Tests of the sentence that names the bottleneck."""

from dataclasses import replace

from pipeline.config import PipelineConfig
from tests.tuning.measured import BOUND_S, best_of, costs
from tuning.advice import advice
from tuning.capacity import Costs, cell


def _told(given: Costs, workers: int, concurrent_batches: int, batch: int, **config: str) -> str:
    pipeline = PipelineConfig.model_validate(config)
    return "\n".join(advice(cell(given, workers, concurrent_batches, batch, BOUND_S), given, pipeline))


def test_cores_that_are_used_up_are_told_by_what_for() -> None:
    told = _told(replace(costs(), serving_s=0.001), 1, 2, 1)
    assert told.startswith(
        "Bottleneck: the 2 cores. Shares of an image's time: the model 80%, decoding 13%, HTTP, Ray and waiting 7%\n"
    )
    assert "dtype: auto" in told
    assert "A GPU" in told


def test_twice_the_cores_pay_until_something_else_is_full() -> None:
    """On a GPU, twice the cores help until another part is full. On a CPU they hold more replicas instead."""
    given = replace(costs(decode_s=0.010, model_s=0.001, on_cpu=False, cores=2), serving_s=0.002)
    told = _told(given, 2, 1, 16)
    assert "Twice the cores would give about 1.2 times the images/s; then decoding would be the bottleneck" in told
    assert "More cores would hold more replicas" in _told(costs(), 1, 2, 1)


def test_a_part_that_takes_next_to_nothing_is_not_named() -> None:
    assert "HTTP" not in _told(costs(), 1, 2, 1).splitlines()[0]


def test_workers_that_are_too_few_are_told() -> None:
    given = costs(decode_s=0.010, model_s=0.0001, on_cpu=False, cores=8, most_workers=8)
    told = _told(given, 2, 1, 16, decode="exact")
    assert told.startswith(
        "Bottleneck: decoding. 2 workers can decode 200 images/s; the model's device could take 4.44e"
    )
    assert "`decode: fast`" in told
    assert "`decode: fast`" not in _told(given, 2, 1, 16, decode="fast")


def test_a_full_device_is_told() -> None:
    given = costs(decode_s=0.001, on_cpu=False, cores=8, most_workers=8)
    told = _told(given, 4, 1, 16)
    assert told.startswith(
        "Bottleneck: the model. Its device can compute 98.8 images/s; the workers could decode 4e+03"
    )
    assert "dtype: auto" not in _told(given, 4, 1, 16, dtype="bfloat16")


def test_http_that_takes_the_most_is_told() -> None:
    given = replace(costs(model_s=0.0005, fixed_s=0.0), serving_s=0.010)
    assert "several images in one request would share" in _told(given, best_of(given).decode_workers, 2, 1)
    assert "several images in one request" not in _told(
        replace(given, images_per_request=8), best_of(given).decode_workers, 2, 1
    )


def test_a_full_event_loop_is_told() -> None:
    given = replace(costs(decode_s=0.001, model_s=0.0001, cores=16, on_cpu=False, most_workers=16), loop_s=0.001)
    told = _told(given, 15, 1, 16)
    assert told.startswith("Bottleneck: the event loop of the replica, which reads and writes HTTP. It can take 1e+03")
    assert "another replica on the same machine" in told
