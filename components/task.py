"""What every component does around its one call: show its log, and end well when it is stopped."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from caloforge.logs import configure_logging
from caloforge.runner import end_with_runner


class _E:
    def failed(self, c: str) -> None: ...


@contextmanager
def task(step: str, family: str = "") -> Iterator[Any]:
    """Surround the work of a component."""
    configure_logging()
    if "_KFP_RUNTIME" in os.environ:
        logging.getLogger("caloforge").propagate = False  # kfp's own handler would repeat each line
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # leave with-blocks, stop servers
    end_with_runner()
    yield _E()
