"""A coverage plug-in with which replicas save their record while they run, because Ray ends them by a kill."""

import sys
import threading
import time
from typing import Any

from coverage import Coverage, CoveragePlugin
from coverage.collector import Collector
from coverage.plugin_support import Plugins

PERIOD_S = 1.0


def coverage_init(plugins: Plugins, _options: Any) -> None:
    """Register the plug-in; coverage calls it in each measured process."""
    plugins.add_noop(CoveragePlugin())
    if not any(part.endswith("default_worker.py") for part in sys.orig_argv):
        return  # only Ray's workers are killed; other processes save when they end
    # A save clears the collected data, including lines that other threads have run meanwhile, so clearing is disabled.
    Collector._clear_data = _nothing  # type: ignore[assignment]
    threading.Thread(target=_save_again_and_again, name="coverage-saving", daemon=True).start()


def _save_again_and_again() -> None:
    while True:
        time.sleep(PERIOD_S)
        if coverage := Coverage.current():
            coverage.save()


def _nothing(_: Collector) -> None:
    pass
