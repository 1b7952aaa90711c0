"""Lay the results of a run where a user looks for them, without a second copy on the disk."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caloforge.files import atomic_directory, atomic_file


def collect(outputs: Mapping[str, Any], output: Path, families: Sequence[str]) -> None:
    """Link the pipeline's artifacts into the output folder.

    Args:
        outputs: name of each output of the pipeline to its ``path``, or a list of such.
        output: gets ``leaderboard.json``, ``report.html``, ``metrics.json``, ``summary.md``, ``tables.csv``,
            ``plots/``, ``bundle/``, ``bundles/<family>/`` and ``generated/<family>.hdf5``; after a search
            ``tuning/<family>/``.
        families: names of the loop's items, in order.
    """
    judgement = Path(outputs["judgement"]["path"])
    link_file(Path(outputs["leaderboard"]["path"]), output / "leaderboard.json")
    link_file(Path(outputs["report"]["path"]), output / "report.html")
    for name in ("metrics.json", "summary.md", "tables.csv"):
        link_file(judgement / name, output / name)
    link_folder(judgement / "plots", output / "plots")
    link_folder(Path(outputs["winner"]["path"]), output / "bundle")
    for family, bundle, generated in zip(families, outputs["bundles"], outputs["generated"], strict=True):
        link_folder(Path(bundle["path"]), output / "bundles" / family)
        link_file(Path(generated["path"]), output / "generated" / f"{family}.hdf5")
    for family, tuning in zip(families, outputs["tunings"], strict=True):
        if (Path(tuning["path"]) / "overrides.json").is_file():  # something was searched
            link_folder(Path(tuning["path"]), output / "tuning" / family)


def link_file(source: Path, target: Path) -> None:
    """Put a file at another place of the same disk, atomically and without a second copy where that can be."""
    with atomic_file(target) as temporary:
        temporary.unlink()
        _link(str(source), str(temporary))


def link_folder(source: Path, target: Path) -> None:
    """Put a folder at another place as :func:`link_file` does; what was there before goes."""
    with atomic_directory(target) as temporary:
        shutil.copytree(source, temporary, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
