"""What every component does around its one call: show its log, say how it ended, and end well when it is stopped."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from caloforge.ending import Ending, cause_of, one_line, write_ending
from caloforge.logs import configure_logging
from caloforge.memory import collect_garbage_seldom
from caloforge.runner import end_with_runner

_STOPPED = 128 + signal.SIGTERM


class Task:
    """The work of a component while it lasts.

    Attributes:
        cause: why the family failed, once it has.
    """

    def __init__(self) -> None:
        self.cause = ""

    def failed(self, cause: str) -> None:
        """Say that the family failed although the step ends well for the run; the first cause counts.

        Args:
            cause: why, in a line.
        """
        self.cause = self.cause or one_line(cause)


@contextmanager
def task(step: str, family: str = "") -> Iterator[Task]:
    """Surround the work of a component; its end is written where pod, log and run find it.

    Args:
        step: name of the step in the pipeline.
        family: of the loop's iteration; empty outside of the loop.
    """
    configure_logging()
    if "_KFP_RUNTIME" in os.environ:
        collect_garbage_seldom()
        logging.getLogger("caloforge").propagate = False  # kfp's own handler would repeat each line
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(_STOPPED))  # leave with-blocks, stop servers
    end_with_runner()
    work = Task()
    try:
        yield work
    except BaseException as error:
        write_ending(Ending(step, family, "failed", _cause(error)))
        raise
    write_ending(Ending(step, family, "failed" if work.cause else "succeeded", work.cause))


def _cause(error: BaseException) -> str:
    if isinstance(error, SystemExit) and error.code == _STOPPED:
        return "stopped: SIGTERM"
    if isinstance(error, KeyboardInterrupt):
        return "stopped: SIGINT"
    return cause_of(error)
