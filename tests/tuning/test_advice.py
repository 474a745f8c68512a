"""What holds the chosen settings back, in words."""

from dataclasses import replace

from pipeline.config import PipelineConfig
from tests.tuning.measured import BOUND_S, best_of, costs
from tuning.advice import advice
from tuning.capacity import Costs, cell


def _told(given: Costs, workers: int, lanes: int, batch: int, **config: str) -> str:
    pipeline = PipelineConfig.model_validate(config)
    return "\n".join(advice(cell(given, workers, lanes, batch, BOUND_S), given, pipeline))


def test_cores_that_are_used_up_are_told_by_what_for() -> None:
    told = _told(replace(costs(), serving_s=0.001), 1, 2, 1)
    assert told.startswith(
        "bound by the 2 cores: an image takes 12 ms for the model, 2 ms for decoding, 1 ms for HTTP and what they cost "
        "each other\n"
    )
    assert "dtype: auto" in told
    assert "a GPU" in told


def test_twice_the_cores_pay_until_something_else_is_full() -> None:
    told = _told(costs(), 1, 2, 1)
    assert "twice the cores would do 1.17 times as much, where the device would be the limit of these" in told


def test_workers_that_are_too_few_are_told() -> None:
    given = costs(decode_s=0.010, model_s=0.0001, on_cpu=False, cores=8, most_workers=8)
    told = _told(given, 2, 1, 16, decode="exact")
    assert told.startswith("decode-bound: 2 workers decode 200 images/s, and the device could take 4.44e+03")
    assert "`decode: fast`" in told
    assert "`decode: fast`" not in _told(given, 2, 1, 16, decode="fast")


def test_a_full_device_is_told() -> None:
    given = costs(decode_s=0.001, on_cpu=False, cores=8, most_workers=8)
    told = _told(given, 4, 1, 16)
    assert told.startswith("device-bound: it computes 98.8 images/s, and the workers could decode 4e+03")
    assert "dtype: auto" not in _told(given, 4, 1, 16, dtype="bfloat16")


def test_http_that_takes_the_most_is_told() -> None:
    given = replace(costs(model_s=0.0005, fixed_s=0.0), serving_s=0.010)
    assert "several images a request share" in _told(given, best_of(given).workers, 2, 1)
