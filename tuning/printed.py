"""Read the ``name=value`` lines of a trial as Katib's metrics collector does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

FILTER = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)", re.ASCII)
"""The default of Katib's StdOut collector."""

Strategy = Literal["min", "max", "latest"]


def printed_values(lines: Iterable[str], names: Sequence[str]) -> dict[str, list[float]]:
    """Return all values of some metrics, in the order they were printed; NaN is no value."""
    values: dict[str, list[float]] = {name: [] for name in names}
    for line in lines:
        for match in FILTER.finditer(line):
            if match[1] in values and match[2]:
                values[match[1]].append(float(match[2]))
    return values


def extract(values: Sequence[float], strategy: Strategy) -> float:
    """Return the one value that stands for all that a trial printed of a metric."""
    if strategy == "latest":
        return values[-1]
    return min(values) if strategy == "min" else max(values)
