"""Every family at two budgets of one core on the same showers: one table and one plot of quality against speed.

Usage: python benchmarks/pareto.py SHOWERS.hdf5 OUTPUT [--minutes 2 20] [--families tree,vae] [--parallel N]

OUTPUT gets ``pareto.md``, ``pareto.png`` and ``pareto.json``, and a folder for each training; a second call goes on
where the first was stopped. Time limits are wall-clock time of one thread: give --parallel no more than idle cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trials
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from trials import FIGURES, MORE_STEPS, Trial

from caloforge.files import write_json
from caloforge.models.registries import FAMILIES
from caloforge.validation.plots.style import BAND, colours, number_decades, style

STAGES = {
    "tree": ("totals", "layers", "rings", "cells", "early"),
    "coupling_flow": ("energies", "training"),
    "flow_matching": ("energies", "training"),
    "diffusion": ("energies", "training"),
    "wgan": ("energies", "training"),
    "vae": ("energies", "training"),
}
SMALLER = {
    "coupling_flow": {
        "model": {"couplings": 4, "network": {"backbone": "layers", "width": 64, "heads": 4}},
        "training": {"batch_size": 32, "ema": 0.995},
    },
    "flow_matching": {"training": {"learning_rate": 2e-3, "ema": 0.998}},
    "diffusion": {"training": {"learning_rate": 2e-3, "ema": 0.998}},
    "wgan": {"training": {"batch_size": 64, "ema": 0.998}},
    "vae": {"training": {"ema": 0.998}},
}
"""What fits thousands of voxels better than the demo's settings, chosen on other showers than the test split's."""


def overrides(family: str) -> dict[str, Any]:
    """Return settings with which only the time limit ends the stages."""
    chosen: dict[str, Any] = {name: dict(values) for name, values in SMALLER.get(family, {}).items()}
    for stage in STAGES[family]:
        chosen[stage] = {**chosen.get(stage, {}), **MORE_STEPS}
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("showers", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[2, 20])
    parser.add_argument("--families", default=",".join(STAGES))
    parser.add_argument("--parallel", type=int, default=1)
    arguments = parser.parse_args()
    families = [FAMILIES.check(name) or name for name in arguments.families.split(",")]
    prepared = trials.standard_split(arguments.showers, arguments.output)
    wanted = [
        Trial(f"{family}-{minutes:g}min", family, minutes, prepared, overrides(family))
        for minutes in sorted(arguments.minutes, reverse=True)
        for family in families
    ]
    found = trials.run(wanted, arguments.showers, arguments.output, parallel=arguments.parallel)
    write_json(arguments.output / "pareto.json", found)
    (arguments.output / "pareto.md").write_text(table(found), encoding="utf-8")
    draw(found, arguments.output / "pareto.png")
    print(table(found))


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return the results as a Markdown table, the best voxel AUC first; the last row is Geant4 itself."""
    heads = ["family", "training, min of one core", "parameters", *FIGURES.values(), "ms per shower"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for one in sorted(found, key=lambda one: one["auc_low"]):
        cells = [one["family"], f"{one['minutes']:g}", f"{one['parameters'] / 1e6:.2f} M"]
        cells += [
            f"{one[name]:.3f} ± {one[f'{name}_error']:.3f}" if "auc" in name else f"{one[name]:.3g}" for name in FIGURES
        ]
        lines.append("| " + " | ".join([*cells, f"{one['ms']:.1f}"]) + " |")
    floors = [f"{found[0][f'{name}_floor']:.3g}" for name in FIGURES]
    lines.append("| " + " | ".join(["Geant4 itself", "", "", *floors, ""]) + " |")
    return "\n".join(lines) + "\n"


def draw(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw each figure against the time for a shower; an open marker is the smaller budget, a band the floor."""
    families = list(dict.fromkeys(one["family"] for one in found))
    hue = dict(zip(families, colours(len(families)), strict=True))
    with style():
        figure = Figure(figsize=(9, 6.6), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True)
        for axes, (name, title) in zip(panels.flat, FIGURES.items(), strict=True):
            _panel(axes, found, name, hue)
            axes.set_ylabel(title)
        for axes in panels[1]:
            axes.set_xlabel("time per shower on one core [ms]")
        budgets = sorted({one["minutes"] for one in found})
        marks: list[Any] = [Line2D([], [], color=hue[name], marker="o", lw=1, label=name) for name in families]
        marks += [
            Line2D(
                [],
                [],
                color="k",
                marker="o",
                mfc="k" if minutes == budgets[-1] else "w",
                lw=0,
                label=f"{minutes:g} min",
            )
            for minutes in budgets
        ]
        marks.append(Line2D([], [], color=BAND, ls="--", label="Geant4 against itself"))
        figure.legend(handles=marks, loc="outside upper center", ncols=5)
        figure.savefig(path, dpi=120)


def _panel(axes: Axes, found: Sequence[dict[str, Any]], name: str, hue: dict[str, str]) -> None:
    most = max(one["minutes"] for one in found)
    for family, colour in hue.items():
        own = sorted((one for one in found if one["family"] == family), key=lambda one: float(one["minutes"]))
        axes.plot([one["ms"] for one in own], [one[name] for one in own], color=colour, lw=1)
        for one in own:
            axes.errorbar(
                one["ms"], one[name], one[f"{name}_error"], color=colour, marker="o",
                mfc=colour if one["minutes"] == most else "w", capsize=2,
            )  # fmt: skip
    axes.axhline(found[0][f"{name}_floor"], color=BAND, ls="--")
    axes.set_xscale("log")
    number_decades(axes.xaxis)
    if "auc" not in name:
        axes.set_yscale("log")
        number_decades(axes.yaxis)


if __name__ == "__main__":
    main()
