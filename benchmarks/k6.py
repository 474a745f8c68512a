"""k6, the load generator that others know (https://grafana.com/docs/k6), to check the project's own by."""

import csv
import os
import resource
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.servers import PEERS
from harness.load import Load
from harness.target import Form, Target

BINARY: Final = PEERS / "k6" / "bin" / "k6"
SCRIPT: Final = Path(__file__).with_name("evenly.js")
CLIENTS: Final = 256
"""Requests that it can wait for at a time; what would be one more is counted as dropped."""


def open_loop(target: Target, forms: Sequence[Form], *, rate: float, for_s: float) -> Load:
    """Clients that come evenly at a rate, whether or not the earlier ones have been answered."""
    with tempfile.TemporaryDirectory(prefix="k6-") as name:
        folder, load = Path(name), Load(for_s)
        paths = [folder / str(number) for number in range(len(forms))]
        for path, form in zip(paths, forms, strict=True):
            path.write_bytes(form.body)
        environment = {
            "IMAGES": ",".join(map(str, paths)),
            "CONTENT_TYPE": forms[0].content_type,
            "URL": target.url,
            "RATE": str(rate),
            "FOR_S": str(for_s),
            "CLIENTS": str(CLIENTS),
        }
        options = ("--quiet", "--no-summary", "--no-usage-report", "--address", "", "--out", f"csv={folder}/out.csv")
        before_s = _children_s()
        subprocess.run(
            [str(BINARY), "run", *options, str(SCRIPT)],
            env={**os.environ, **environment},
            check=True,
            capture_output=True,
        )
        load.clients_cores = (_children_s() - before_s) / for_s
        with (folder / "out.csv").open(newline="") as file:
            _read(csv.DictReader(file), load)
    return load


def _read(samples: "csv.DictReader[str]", load: Load) -> None:
    others = Counter[str]()
    for sample in samples:
        value = float(sample["metric_value"])
        if sample["metric_name"] == "http_req_duration":
            load.sent += 1
            if sample["status"] == "200":
                load.took_s.append(value / 1000)
            else:
                others[sample["status"] if sample["status"] != "0" else f"k6 error {sample['error_code']}"] += 1
        elif sample["metric_name"] == "dropped_iterations":
            load.sent += int(value)
            others["dropped"] += int(value)
    load.others += others


def _children_s() -> float:
    """Processor time of processes that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
