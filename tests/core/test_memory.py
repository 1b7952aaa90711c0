"""A container's control group, played by files; the kernel writes them, so nothing else can be run here."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest

from caloforge.memory import collect_garbage_seldom, watch_memory

GIB = 2**30


@pytest.fixture
def group(tmp_path: Path) -> Path:
    (tmp_path / "memory.max").write_text(f"{3 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB}\n")
    (tmp_path / "memory.stat").write_text("anon 1\nfile 0\ninactive_file 0\nactive_file 0\n")
    (tmp_path / "memory.events").write_text("low 0\nmax 7\noom 0\noom_kill 0\noom_group_kill 0\n")
    return tmp_path


def test_it_acts_before_the_memory_is_used_up(group: Path) -> None:
    acted = threading.Event()
    with watch_memory(acted.set, group=group) as watch:
        assert not acted.wait(0.3)
        (group / "memory.current").write_text(f"{int(2.9 * GIB)}\n")
        assert acted.wait(10)
    assert watch.exceeded
    assert watch.limit == "3Gi"


@pytest.mark.parametrize("kind", ["inactive_file", "active_file", "slab_reclaimable"])
def test_what_the_kernel_takes_back_does_not_count(group: Path, kind: str) -> None:
    """A shower file that is summed and then read stays in memory as pages that were used twice (active)."""
    acted = threading.Event()
    (group / "memory.stat").write_text(f"anon 1\n{kind} {GIB}\n")
    (group / "memory.current").write_text(f"{int(2.9 * GIB)}\n")
    with watch_memory(acted.set, group=group) as watch:
        assert not acted.wait(0.3)
    assert not watch.exceeded


def test_what_the_kernel_killed_was_too_much_as_well(group: Path) -> None:
    with watch_memory(lambda: None, group=group) as watch:
        (group / "memory.events").write_text("low 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n")
    assert watch.exceeded


@pytest.mark.parametrize("limit", ["max\n", None])
def test_without_a_limit_nothing_is_watched(group: Path, limit: str | None) -> None:
    (group / "memory.max").unlink()
    if limit is not None:
        (group / "memory.max").write_text(limit)
    with watch_memory(lambda: pytest.fail("there is no limit"), group=group) as watch:
        assert not watch.limit
    assert not watch.exceeded


def test_full_collections_are_rare_and_others_are_as_ever() -> None:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    try:
        collect_garbage_seldom()
        assert gc.get_threshold() == (700, 10, 100)
    finally:
        gc.set_threshold(*before)
