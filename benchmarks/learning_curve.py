"""How good the splitting tree gets, by training time and by number of training showers.

Usage: python benchmarks/learning_curve.py SHOWERS.hdf5 OUTPUT [--minutes 1 2 5 10 20] [--showers 500 1000 2000 4000]
       [--parallel N]

The curve in time uses all training showers; the curve in showers has the longest of the times. OUTPUT gets
``learning_curve.md``, ``.png`` and ``.json``, and a folder for each training; a second call goes on where the first was
stopped. Time limits are wall-clock time of one thread: give --parallel no more than idle cores.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import trials
from matplotlib.figure import Figure
from trials import FIGURES, Trial

from caloforge.files import atomic_directory, read_json, write_json
from caloforge.models.presets import endless
from caloforge.preprocessing.prepared import load_prepared
from caloforge.validation.plots.style import BAND, COLOURS, number_decades, style

SHOWN = {**FIGURES, "nll": "-log p [nats per shower]"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 2, 5, 10, 20])
    parser.add_argument("--showers", type=int, nargs="+", default=[500, 1000, 2000, 4000])
    parser.add_argument("--parallel", type=int, default=1)
    arguments = parser.parse_args()
    prepared = trials.standard_split(arguments.data, arguments.output)
    everything, most = len(load_prepared(prepared).splits["train"]), max(arguments.minutes)
    settings = endless("tree", "demo")
    wanted = [
        Trial(f"{minutes:g}min", "tree", minutes, prepared, settings) for minutes in sorted(arguments.minutes)[::-1]
    ]
    wanted += [
        Trial(f"{number}showers", "tree", most, with_fewer(prepared, number, arguments.output), settings)
        for number in arguments.showers
        if number < everything
    ]
    found = trials.run(wanted, arguments.data, arguments.output, parallel=arguments.parallel)
    write_json(arguments.output / "learning_curve.json", found)
    (arguments.output / "learning_curve.md").write_text(table(found), encoding="utf-8")
    draw(found, arguments.output / "learning_curve.png")
    print(table(found))


def with_fewer(prepared: Path, showers: int, folder: Path) -> Path:
    """Copy prepared data with that many training showers, chosen at random; the tree uses none of the transforms."""
    output = folder / f"prepared-{showers}"
    if not output.is_dir():
        record = read_json(prepared / "prepared.json")
        with np.load(prepared / "splits.npz", allow_pickle=False) as arrays:
            splits = dict(arrays)
        chosen = np.random.default_rng(0).permutation(splits["train"])[:showers]
        splits["train"], record["splits"]["train"] = np.sort(chosen), showers
        with atomic_directory(output) as temporary:
            shutil.copytree(prepared, temporary, dirs_exist_ok=True)
            np.savez(temporary / "splits.npz", allow_pickle=False, **splits)
            write_json(temporary / "prepared.json", record)
    return output


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return the results as a Markdown table with the floors in the last row."""
    heads = ["training showers", "minutes of one core", *SHOWN.values()]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for one in sorted(found, key=lambda one: (one["showers"], one["minutes"])):
        figures = [f"{one[name]:.1f}" if name == "nll" else f"{one[name]:.3g}" for name in SHOWN]
        lines.append("| " + " | ".join([str(one["showers"]), f"{one['minutes']:g}", *figures]) + " |")
    floors = [f"{found[0][f'{name}_floor']:.3g}" for name in FIGURES]
    lines.append("| " + " | ".join(["Geant4 itself", "", *floors, ""]) + " |")
    return "\n".join(lines) + "\n"


def draw(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the curves: by showers above, by minutes below."""
    everything, most = max(one["showers"] for one in found), max(one["minutes"] for one in found)
    shown = [name for name in SHOWN if name != "mean_separation"]
    rows = {
        "showers": ("training showers", [one for one in found if one["minutes"] == most]),
        "minutes": ("training, minutes of one core", [one for one in found if one["showers"] == everything]),
    }
    with style():
        figure = Figure(figsize=(11, 5.4), layout="constrained")
        for line, (key, (label, own)) in zip(figure.subplots(2, len(shown)), rows.items(), strict=True):
            own = sorted(own, key=lambda one: float(one[key]))
            for axes, name in zip(line, shown, strict=True):
                errors = [one.get(f"{name}_error", 0) for one in own]
                axes.errorbar(
                    [one[key] for one in own], [one[name] for one in own], errors,
                    color=COLOURS[0], marker="o", lw=1, capsize=2,
                )  # fmt: skip
                if name in FIGURES:
                    axes.axhline(own[0][f"{name}_floor"], color=BAND, ls="--", label="Geant4 against itself")
                axes.set_xscale("log")
                number_decades(axes.xaxis)
                axes.set(xlabel=label, ylabel=SHOWN[name])
        figure.axes[0].legend()
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
