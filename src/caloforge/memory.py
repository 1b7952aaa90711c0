"""How much of its container's memory this process and its children use, what happens before it runs out, and garbage.

Kubernetes has the kernel kill all processes of a container that needs more than it may (cgroup v2,
``memory.oom.group``): nobody is left to say what happened. Whoever runs a greedy process watches instead.
"""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""A container sees the files of its own group here."""

SHARE = 0.95
"""So much of the memory may be in use; what is left is for the time between two looks."""

LOOK_SECONDS = 0.05

_GIVEN_BACK = ("inactive_file", "active_file", "slab_reclaimable")
"""What the kernel takes back before it kills, as ``memory.stat`` calls it."""

_UNITS = (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10))


@dataclass
class MemoryWatch:
    """What was seen.

    Attributes:
        limit: memory of the container as Kubernetes writes it, e.g. 3Gi; empty without a limit.
        exceeded: whether it was nearly used up, or the kernel killed a process for it.
    """

    limit: str = ""
    exceeded: bool = False


@contextmanager
def watch_memory(act: Callable[[], None], *, group: Path | None = None) -> Iterator[MemoryWatch]:
    """Call ``act`` once, from another thread, when nearly all of the container's memory is in use.

    Args:
        act: ends what uses the memory.
        group: folder of the control group (version 2); without it this container's.
    """
    group = group or CGROUP
    watch = MemoryWatch()
    limit = _number(group / "memory.max")
    if limit is None:
        yield watch
        return
    watch.limit = _amount(limit)
    killed_before, done = _killed(group), threading.Event()

    def look() -> None:
        while not done.wait(LOOK_SECONDS):
            if _in_use(group) > SHARE * limit:
                watch.exceeded = True
                act()
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()
        watch.exceeded = watch.exceeded or _killed(group) > killed_before


def memory_limit(*, group: Path | None = None) -> int:
    """Return the bytes that this process may use: the memory of its container, or that of the machine if less.

    Args:
        group: folder of the control group; without it this container's.
    """
    group = group or CGROUP
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [_number(group / name) for name in ("memory.max", "memory/memory.limit_in_bytes")]  # cgroup v2, v1
    return min([machine, *(limit for limit in limits if limit)])


def give_back_memory() -> None:
    """Return to the system what the C library keeps of freed memory, which it otherwise may for ever."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc has it, musl does not
        trim(0)


def collect_garbage_seldom() -> None:
    """Let this process look through all of its objects a tenth as often: most are of modules, and stay.

    Importing what a training needs takes a sixth less time then. Young objects are looked through as often as ever,
    so that what a step leaves in circles goes soon.
    """
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, 100)


def _in_use(group: Path) -> int:
    """Return the bytes that cannot be given back.

    Pages of files can, those that were read twice too: a file larger than the memory fills it with them and
    harms nobody. What lies in ``/dev/shm`` counts, it is no page of a file here.
    """
    given_back = sum(_entry(group / "memory.stat", name) for name in _GIVEN_BACK)
    return (_number(group / "memory.current") or 0) - given_back


def _killed(group: Path) -> int:
    return _entry(group / "memory.events", "oom_kill")


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" is no limit


def _entry(path: Path, name: str) -> int:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)


def _amount(n_bytes: int) -> str:
    unit, size = next(((unit, size) for unit, size in _UNITS if n_bytes % size == 0), ("", 1))
    return f"{n_bytes // size}{unit}"
