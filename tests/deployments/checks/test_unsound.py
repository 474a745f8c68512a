"""Tests of configurations that YAML and Serve accept although they mean something else than they say."""

from pathlib import Path

import pytest

from deployments.live_config import LiveConfig
from deployments.service_config import ServiceConfig
from pipeline.config import PipelineConfig
from pipeline.live_limits import Limits
from tests.support.written_config import BEHIND_HAPROXY, SCALING, USER_CONFIG, WRITTEN_OUT, changed, faults_of

SETTINGS_OF_POLICY = "applications.0.deployments.0.autoscaling_config.policy.policy_kwargs"
PIPELINE = "applications.0.args.pipeline"


@pytest.mark.parametrize(
    ("old", "new", "path", "says"),
    [
        ("port: 8000", "port: 80000", "http_options.port", "from 1 to 65535"),
        ("port: 8000", "port: -1", "http_options.port", "from 1 to 65535"),
        ("port: 8000", "port: 0", "http_options.port", "from 1 to 65535"),
        ("port: 8000", "port: 8000.0", "http_options.port", "from 1 to 65535"),
        ("port: 8000", "port: 8404", "http_options.port", "HAProxy's statistics"),
        ("port: 8000", "port: 8500", "http_options.port", "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT=8501"),
        ("port: 8000", "prot: 8000", "http_options.prot", "did you mean port?"),
        ("host: 127.0.0.1", "host: 127.0.0.1:8000", "http_options.host", "without http:// and port"),
        ("host: 127.0.0.1", "host: http://127.0.0.1", "http_options.host", "without http:// and port"),
        ("host: 127.0.0.1", "host: 256.0.0.1", "http_options.host", "neither an address nor"),
        ("host: 127.0.0.1", "host: my..host", "http_options.host", "neither an address nor"),
        ("host: 127.0.0.1", "host: my host", "http_options.host", "neither an address nor"),
        ("host: 127.0.0.1", "host: ''", "http_options.host", "neither an address nor"),
        ("host: 127.0.0.1", "host: '[::1]'", "http_options.host", "neither an address nor"),
        ("host: 127.0.0.1", "host: '::1::'", "http_options.host", "neither an address nor"),
        ("host: 127.0.0.1", "host: 127", "http_options.host", "no address"),
        ("route_prefix: /", "route_prefix: classify", "applications.0.route_prefix", "a slash in front"),
        ("route_prefix: /", "route_prefix: /classify/", "applications.0.route_prefix", "none at the end"),
        ("route_prefix: /", "route_prefix: /my model", "applications.0.route_prefix", "is no path"),
        ("route_prefix: /", "route_prefix: //", "applications.0.route_prefix", "is no path"),
        ("route_prefix: /", "route_prefix: /a?b=c", "applications.0.route_prefix", "is no path"),
        ("route_prefix: /", "route_prefix: '/{a}'", "applications.0.route_prefix", "is no path"),
        ("route_prefix: /", "route_prefix: /-/healthz", "applications.0.route_prefix", "Serve's own"),
        ("route_prefix: /", "route_prefix: /a/../b", "applications.0.route_prefix", "is no path"),
        ("route_prefix: /", "route_prefix: null", "applications.0.route_prefix", "without an address"),
        ("route_prefix: /", "route_prefix: 1", "applications.0.route_prefix", "is no path"),
        ("name: darkroom", "name: my/model", "applications.0.name", "is no name"),
        ("name: Model", "name: Classifier", "applications.0.deployments.0.name", "is called Model now; write Model"),
        ("name: darkroom", "name: '#'", "applications.0.name", "is no name"),
        ("name: darkroom", 'name: "\\udcff"', "applications.0.name", "is no name"),
        ("max_queue_wait_s: ", "max_queue_wait_s: 1.0e+300 #", f"{USER_CONFIG}.max_queue_wait_s", "is at most 9007199"),
        ("upscale_delay_s: 5", "upscale_delay_s: 1000000000000000000000", f"{SCALING}.upscale_delay_s", "too large"),
        ("encoding: JSON", 'encoding: "\\udcff"', "applications.0.logging_config", "half a character"),
        ("mobilenet_v2", "mobilenet_v9", f"{PIPELINE}.model", "did you mean mobilenet_v2"),
        ("mobilenet_v2", "ResNet50", f"{PIPELINE}.model", "did you mean resnet50"),
        ("mobilenet_v2", "r3d_18", f"{PIPELINE}.model", "r3d_18 is a video model"),
        ("mobilenet_v2", "fasterrcnn_resnet50_fpn", f"{PIPELINE}.weights", "write COCO_V1 or DEFAULT"),
        ("mobilenet_v2", "''", f"{PIPELINE}.model", "torchvision has alexnet"),
        ("IMAGENET1K_V1", "IMAGENET1K_V9", f"{PIPELINE}.weights", "write IMAGENET1K_V1 or IMAGENET1K_V2"),
        ("IMAGENET1K_V1", "imagenet1k_v1", f"{PIPELINE}.weights", "write IMAGENET1K_V1 or IMAGENET1K_V2"),
        ("device: auto", "device: gpu", f"{PIPELINE}.device", "'auto', 'cpu' or 'cuda', not 'gpu'"),
        ("decode: fast", "decode: fsat", f"{PIPELINE}.decode", "'fast' or 'exact', not 'fsat'"),
        ("formats: [JPEG", "formats: [JPG", f"{PIPELINE}.formats.0", "not 'JPG'"),
        ("batch_sizes: [1, ", "batch_sizes: [yes, ", f"{PIPELINE}.batch_sizes.0", "not true"),
        ("batch_sizes: [1, ", "batch_sizes: [1.5, ", f"{PIPELINE}.batch_sizes.0", "not 1.5"),
        ("slots: 256", "slots: 256\n        mean: [.inf, 0, 0]", f"{PIPELINE}.mean.0", "finite number, not inf"),
        ("slots: 256", "slots: 256\n        std: [.2, .nan, .2]", f"{PIPELINE}.std.1", "finite number, not nan"),
        ("slots: 256", "slots: 256\n        mean: [.2, .2]", f"{PIPELINE}.mean.2", "required"),
        ("slots: 256", "slots: 256\n        decode_workers:", f"{PIPELINE}.decode_workers", "there is no value"),
        ("slots: 256", "slots: 256\n        workers: 2", f"{PIPELINE}.workers", "called decode_workers now"),
        ("slots: 256", "slots: 256\n        threads: 2", f"{PIPELINE}.threads", "write concurrent_batches"),
        ("top_k: 5\n", "top_k: 5\n          max_wait_s: 5\n", f"{USER_CONFIG}.max_wait_s", "write max_queue_wait_s"),
        ("top_k: 5\n", "top_k: 5\n          batch_wait_s: 0\n", f"{USER_CONFIG}.batch_wait_s", "write batch_window_s"),
        ("min_replicas: 1", "min_replicas: 5", SCALING, "max_replicas (4) must be greater"),
        ("min_replicas: 1", "min_replicas: 1\n          initial_replicas: 9", SCALING, "initial_replicas (9)"),
        ("target_ongoing_requests: 8", "target_ongoing_requests: 1000", f"{SCALING}.target_ongoing_requests", "512"),
        ("busy: 0.75", "busy: 75", f"{SETTINGS_OF_POLICY}.busy", "75 must be a number"),
        ("hysteresis: 0.8", "histeresis: 0.8", f"{SETTINGS_OF_POLICY}.histeresis", "did you mean hysteresis?"),
        ("wait_for_nodes: false", "wait_for_nodes: 0", f"{SETTINGS_OF_POLICY}.wait_for_nodes", "true or false"),
        (":ByWork", ":ByWorks", f"{SCALING}.policy.policy_function", "did you mean deployments.autoscaling:ByWork?"),
        ("deployments.autoscaling:ByWork", "json:loader", f"{SCALING}.policy.policy_function", "no attribute 'loader'"),
        ("look_back_period_s: 2", "look_back_period_s: 0.5", SCALING, "must be greater than `metrics_interval_s`"),
        ("log_level: WARNING", "log_level: LOUD", "applications.0.logging_config.log_level", "LOUD"),
        ("encoding: JSON", "encoding: XML", "applications.0.logging_config.encoding", "XML"),
        ("enable_access_log: false", "enable_access_log: 0", "applications.0.logging_config.enable_access_log", "0"),
        ("max_queued_requests: 512", "max_queued_requests: -5", "applications.0.deployments.0.max_queued_requests", ""),
        (
            "max_queued_requests: 512",
            "max_ongoing_requests: 5",
            "applications.0.deployments.0.max_ongoing_requests",
            "contradicts max_ongoing_requests: 512 under args",
        ),
        ("max_top_k: 10", "head: embed", USER_CONFIG, "top_k: 5 is set, and the head in service, embed, has no such"),
        ("max_top_k: 10", "max_top_k: 10\n        head: detect", PIPELINE, "max_top_k: 10 is for head: classify"),
        ("threshold: null", "threshold: 50", f"{USER_CONFIG}.threshold", "less than or equal to 1"),
        ("parameters: {}", "parameters: {top_k: 3}", USER_CONFIG, "write top_k: under user_config"),
        ("top_k: 5\n", "top_k: 5\n          max_image_work_s: 30\n", f"{USER_CONFIG}.max_image_work_s", "twice"),
        ("max_image_work_s: 0.5", "max_image_work_s: 30", USER_CONFIG, "above max_request_work_s: 20"),
        ("app:build_app", "app:build_ap", "applications.0.import_path", "did you mean deployments.app:build_app"),
        ("deployments.app:b", "deployment.app:b", "applications.0.import_path", "did you mean deployments.app"),
        ("deployments.app:b", "deployments.apps:b", "applications.0.import_path", "did you mean deployments.app"),
        ("    args:\n", "    runtime_env: {env_var: {}}\n    args:\n", "applications.0.runtime_env.env_var", "_vars"),
    ],
)  # fmt: skip
def test_what_means_something_else_is_told(tmp_path: Path, old: str, new: str, path: str, says: str) -> None:
    """A value that means something else than it says is reported with the path of its key and the value to write."""
    told = faults_of(tmp_path, changed(old, new), **BEHIND_HAPROXY)
    assert says in told.get(path, "nothing"), told


@pytest.mark.parametrize("spelling", ["deployments.app:build_app", "deployments.app.build_app"])
def test_each_spelling_of_the_import_path_is_darkrooms(tmp_path: Path, spelling: str) -> None:
    """Both spellings of the import path that Ray accepts are recognised, so errors below them are found."""
    text = changed("deployments.app:build_app", spelling)
    assert faults_of(tmp_path, text) == {}
    told = faults_of(
        tmp_path, text.replace("max_queue_wait_s", "max_queue_waits_s").replace("decode: fast", "decode: fsat")
    )
    assert set(told) == {f"{USER_CONFIG}.max_queue_waits_s", f"{PIPELINE}.decode"}


def test_what_belongs_to_other_applications_is_theirs(tmp_path: Path) -> None:
    """Arguments of other applications are not checked: these may read 0755 as the mode of a file."""
    other = "  - {name: o, import_path: 'o:p', route_prefix: /o, args: {mode: 0755, at: 12:30, on: yes, none: }}\n"
    assert faults_of(tmp_path, WRITTEN_OUT + other) == {}


def test_a_key_is_never_repeated(tmp_path: Path) -> None:
    """No message repeats an API key that is written in place of the key file, under a wrong name, or twice."""
    key = "0123456789abcdef-secret"
    for line in (f"api_keys_file: {key}", f"api_keys: {key}", f"api_keys_file: {key}\n      api_keys_file: {key}"):
        told = faults_of(tmp_path, changed("    args:\n", f"    args:\n      {line}\n"))
        assert told
        assert not any(key in part for each in told.items() for part in each), told
    text = changed("http_options:\n", "http_options:\n  ssl_keyfile_password: [" + key + "]\n")
    assert key not in str(faults_of(tmp_path, text))


@pytest.mark.parametrize("model", [PipelineConfig, Limits, LiveConfig, ServiceConfig])
def test_every_list_of_a_configuration_is_taken(model: type[Limits]) -> None:
    """Settings that are tuples accept the lists that YAML gives, although the models are strict."""
    values = {name: field.default for name, field in model.model_fields.items() if isinstance(field.default, tuple)}
    model.model_validate({name: list(value) for name, value in values.items()})
