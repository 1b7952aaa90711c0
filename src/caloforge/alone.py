"""One command at a time in a folder that it goes on in: two would train into each other's checkpoints."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caloforge.errors import InputError

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2

_held: set[tuple[int, int]] = set()
"""Device and inode of the folders that this process has for itself."""


@contextmanager
def alone(folder: Path, *, shown: Path | None = None, patience: float = 0) -> Iterator[None]:
    """Have a folder, which is made if it is not there, for this process as long as the block lasts.

    The folder itself is locked, so that nothing is left behind however the process ends. A process may ask for what
    it has already. On a disk without locks nobody is kept out.

    Args:
        folder: the folder.
        shown: what the message calls it; without it the folder.
        patience: seconds to wait: what a killed command had started ends only a moment after it.

    Raises:
        InputError: another command has it.
        OSError: it cannot be made.
    """
    handle = _locked(folder, shown or folder, time.monotonic() + patience)
    state = os.fstat(handle)
    mark = (state.st_dev, state.st_ino)
    outermost = mark not in _held
    _held.add(mark)
    try:
        yield
    finally:
        if outermost:
            _held.discard(mark)
        os.close(handle)


def _locked(folder: Path, shown: Path, deadline: float) -> int:
    """Return the handle of a folder that is there and locked."""
    told = False
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # the other one has removed it at its end
            continue
        state = os.fstat(handle)
        try:
            if (state.st_dev, state.st_ino) not in _held:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            if time.monotonic() >= deadline:
                msg = f"{shown}: another command is writing here; wait for its end or choose another output"
                raise InputError(msg) from None
            if not told:
                logger.info("%s: another command is writing here; waiting for its end", shown)
                told = True
            time.sleep(_LOOK_SECONDS)
            continue
        except OSError as error:
            logger.debug("%s: no locks here (%s)", folder, error)
        if _is_still(folder, state):
            return handle
        os.close(handle)


def _is_still(folder: Path, state: os.stat_result) -> bool:
    try:
        return os.path.samestat(folder.stat(), state)
    except OSError:
        return False
