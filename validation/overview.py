"""The overview of a run: one page that answers how good its generators are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caloforge.files import atomic_file
from caloforge.index import Index


def write_overview(metrics: Mapping[str, Any], board: Mapping[str, Any], plots: Path, index: Index, path: Path) -> None:
    """Write the overview as one HTML file that needs nothing but itself.

    Args:
        metrics: content of ``metrics.json``.
        board: content of ``leaderboard.json``.
        plots: folder of the judgement's plots.
        index: the run's results.
        path: where it goes.
    """
    with atomic_file(path) as temporary:
        temporary.write_text("<!doctype html>\n")
