"""The files of a tuning."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from caloforge.files import write_json
from caloforge.outputs import put_files
from caloforge.result_kinds import TUNING
from caloforge.tuning.plots import write_plots
from caloforge.tuning.result import Tuning, tuning_markdown

FILES = ("overrides.json", "trials.json", "tuning.md", "history.png", "parallel_coordinates.png")


def write_tuning(tuning: Tuning, output: Path) -> None:
    """Write ``overrides.json``, ``trials.json``, ``tuning.md``, ``history.png`` and ``parallel_coordinates.png``.

    Args:
        tuning: what was found.
        output: folder, made if it is not there; what else is in it stays.

    Raises:
        InputError: one of the files is there already, and not as caloforge left it.
    """
    with put_files(output, TUNING) as folder:
        write_json(folder / "overrides.json", tuning.overrides())
        write_json(folder / "trials.json", [asdict(trial) for trial in tuning.trials])
        (folder / "tuning.md").write_text(tuning_markdown(tuning), encoding="utf-8")
        write_plots(tuning, folder)
