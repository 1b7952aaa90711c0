"""The files of a tuning."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from caloforge.files import atomic_file, write_json
from caloforge.tuning.plots import write_plots
from caloforge.tuning.result import Tuning, tuning_markdown


def write_tuning(tuning: Tuning, output: Path) -> None:
    """Write ``overrides.json``, ``trials.json``, ``tuning.md``, ``history.png`` and ``parallel_coordinates.png``.

    Args:
        tuning: what was found.
        output: folder, made if it is not there.
    """
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "overrides.json", tuning.overrides())
    write_json(output / "trials.json", [asdict(trial) for trial in tuning.trials])
    with atomic_file(output / "tuning.md") as path:
        path.write_text(tuning_markdown(tuning), encoding="utf-8")
    write_plots(tuning, output)
