"""How long the steps worked, and how much of a run's time went elsewhere."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from caloforge.steps import boot


def timings(log: Path, *, start: float, end: float) -> dict[str, Any]:
    """Sum up the lines that :func:`caloforge.steps.step` wrote.

    Args:
        log: JSON lines of ``step``, ``process`` (start of its process), ``start`` and ``end``, in seconds of the
            machine's monotonic clock, and ``boot``, since when that counts.
        start: start of this run by that clock; steps that ended before were kept from an earlier one.
        end: end of this run.

    Returns:
        Seconds of work and overhead (start of the process and imports) per step, the wall time of
        this run and the fraction of it in which no step was working.
    """
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    records = [_of_this_boot(json.loads(line)) for line in lines]
    steps = {
        record["step"]: {
            "work_seconds": round(record["end"] - record["start"], 3),
            "overhead_seconds": round(record["start"] - record["process"], 3),
            "kept_from_earlier_run": record["end"] < start,
        }
        for record in records
    }
    wall = end - start
    working = covered((max(r["start"], start), r["end"]) for r in records if r["end"] > start)
    return {
        "steps": steps,
        "wall_seconds": round(wall, 3),
        "working_seconds": round(working, 3),
        "overhead_fraction": round((wall - working) / wall, 4),
    }


def _of_this_boot(record: dict[str, Any]) -> dict[str, Any]:
    """Move what an earlier boot of the machine did before the beginning of the clock."""
    if record["boot"] == boot():
        return record
    return {**record, **{name: record[name] - record["end"] - 1 for name in ("process", "start", "end")}}


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
