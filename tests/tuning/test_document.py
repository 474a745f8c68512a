"""Tests of writing settings into a configuration without other changes."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from deployments.checks.serve_faults import all_faults
from harness.repository import ROOT
from tests.tuning.measured import BOUND_S, PRESENT, best_of, costs
from tuning.derived_settings import Sizes, settings_for
from tuning.document import MEANINGS, diff, with_settings
from tuning.replica_settings import Settings

SETTINGS = settings_for(best_of(costs()), costs(), Sizes(60_000, 120_000), PRESENT, BOUND_S)
SHIPPED = (ROOT / "serve_config.yaml").read_text()
BARE = """\
# one line
applications:
- import_path: other:app
  name: other
  route_prefix: /other
- name: darkroom   # two
  import_path: "deployments.app:build_app"
"""


def test_comments_and_all_that_was_not_tuned_stay() -> None:
    """Every line without a tuned key stays in its place, comments included."""
    after = with_settings(SHIPPED, SETTINGS)
    before, now = SHIPPED.splitlines(), after.splitlines()
    keys = [*SETTINGS.args, *SETTINGS.args["pipeline"], *SETTINGS.user_config]

    def others(lines: list[str]) -> list[str]:
        return [line for line in lines if line.strip().partition(":")[0] not in keys or line.endswith("pipeline:")]

    assert others(now) == others(before)
    for line in before:
        key, hash_, comment = line.partition(" # ")
        if hash_ and not (key.strip().partition(":")[0] in MEANINGS and re.search(r"\d", comment)):
            assert any(comment in other for other in now)


def test_a_comment_that_speaks_of_the_old_value_is_replaced() -> None:
    """A comment with a figure is about the old value and is replaced; other comments stay."""
    text = BARE + (
        "  deployments:\n  - name: Model\n    user_config:\n"
        "      max_queue_wait_s: 10.0 # 256 clients wait for 5 s\n\n"
        "      # of the 3 following\n      top_k: 5\n      max_bytes_in_flight: 536870912 # mine\n"
    )
    after = with_settings(text, replace(PRESENT, max_queue_wait_s=0.2, max_bytes_in_flight=256 << 20), PRESENT)
    assert (
        "max_queue_wait_s: 0.2  # requests that would wait longer get 503 and Retry-After\n\n      # of the 3 foll"
        in after
    )
    assert "max_bytes_in_flight: 268435456 # mine" in after
    kept = with_settings(text, replace(PRESENT, max_queue_wait_s=10.0), replace(PRESENT, max_queue_wait_s=10.0))
    assert kept == text


def test_the_result_is_sound_and_has_the_settings() -> None:
    document = yaml.safe_load(with_settings(SHIPPED, SETTINGS))
    assert all_faults(document, {}) == []
    (application,) = document["applications"]
    assert application["args"]["pipeline"].items() >= SETTINGS.args["pipeline"].items()
    assert application["deployments"][0]["user_config"].items() >= SETTINGS.user_config.items()


def test_written_twice_it_stays_as_it_is() -> None:
    once = with_settings(SHIPPED, SETTINGS)
    assert with_settings(once, SETTINGS) == once
    assert diff(Path("c.yaml"), once, once) == ""


def test_only_what_changes_is_written() -> None:
    """Only changed values are written: a value left to the machine stays so if the tuned value is the same."""
    assert with_settings(SHIPPED, PRESENT, PRESENT) == SHIPPED
    wider = with_settings(SHIPPED, replace(PRESENT, max_queue_wait_s=7.0), PRESENT)
    (changed,) = [line for line in wider.splitlines() if line not in SHIPPED.splitlines()]
    assert changed.strip().startswith("max_queue_wait_s: 7.0 ")


@pytest.mark.parametrize(
    ("settings", "written"),
    [(replace(PRESENT, decode_workers=3), (3, None)), (replace(PRESENT, concurrent_batches=3), (None, 3))],
    ids=["decode_workers", "concurrent_batches"],
)
def test_the_size_of_a_replica_is_written_beside_what_it_would_follow_from(
    settings: Settings, written: tuple[int | None, int | None]
) -> None:
    """`num_cpus` is written beside workers and concurrent batches, from which a larger value would follow."""
    args = yaml.safe_load(with_settings(SHIPPED, settings, PRESENT))["applications"][0]["args"]
    assert args["num_cpus"] == PRESENT.num_cpus
    assert (args["pipeline"].get("decode_workers"), args["pipeline"].get("concurrent_batches")) == written


def test_a_new_key_says_what_it_is() -> None:
    """A new key gets a comment on its meaning; existing keys keep their comments."""
    lines = with_settings(SHIPPED, SETTINGS).splitlines()
    (line,) = [line for line in lines if line.strip().startswith("decode_workers:")]
    assert line.endswith(" # processes that decode images")
    assert all(all_faults(yaml.safe_load(text), {}) == [] for text in ("\n".join(lines), SHIPPED))


def test_what_the_file_leaves_out_is_added_to_the_right_application() -> None:
    after = with_settings(BARE, SETTINGS)
    other, darkroom = yaml.safe_load(after)["applications"]
    assert other == {"import_path": "other:app", "name": "other", "route_prefix": "/other"}
    assert darkroom["args"]["pipeline"]["decode_workers"] == SETTINGS.decode_workers
    assert darkroom["deployments"] == [{"name": "Model", "user_config": dict(SETTINGS.user_config)}]
    assert after.startswith(BARE)


def test_the_diff_names_the_file_and_both_values() -> None:
    after = with_settings(SHIPPED, SETTINGS)
    shown = diff(Path("c.yaml"), SHIPPED, after)
    assert shown.startswith("--- c.yaml\n+++ c.yaml (tuned)\n")
    assert "-          max_queue_wait_s: 10.0 # " in shown
    assert f"+          max_queue_wait_s: {SETTINGS.max_queue_wait_s}  # {MEANINGS['max_queue_wait_s']}\n" in shown
    assert f"+          max_batch_size: {SETTINGS.batch}" in shown
