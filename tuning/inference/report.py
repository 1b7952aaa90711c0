"""The measurement as a table and a plot."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from caloforge.markdown import plain
from caloforge.tuning.inference.record import Measured, Optimisation, Value
from caloforge.tuning.plots import pictures_html
from caloforge.validation.plots.style import BAND, COLOURS, LINE, escaped, head, number_decades, style

_TIMED = ("torch", "onnxruntime")
"""Libraries that times depend on."""


def table(found: Optimisation) -> str:
    """Return the measurement in Markdown, the fastest first."""
    sizes = [f"ms per shower, {size}" for size in found.sizes]
    heads = [
        "variant", *sizes, "speed", "FPD", "AUC", "AUC against fp32", "load [s]", "first shower [s]", "memory [MB]",
        "file [MB]", "verdict",
    ]  # fmt: skip
    lines = [f"# {plain(found.family)}: {plain(found.chosen)}", "", f"Chosen because: {plain(found.why)}.", ""]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for one in sorted(found.candidates, key=lambda one: -one.speed):
        lines.append("| " + " | ".join(_cells(one, found)) + " |")
    floor = ["Geant4 itself (last: fp32 itself)", *[""] * (len(found.sizes) + 1)]
    floor += [_value(getattr(found.floor, name)) for name in ("fpd", "auc", "auc_plain")] + [""] * 5
    lines.append("| " + " | ".join(floor) + " |")
    note = (
        f"Milliseconds are the median of {found.rounds} interleaved rounds; speed is the geometric mean over the sizes, "
        f"beside PyTorch in float32. Fidelity: {found.showers} showers of each kind, refused when worse than fp32 by "
        f"more than {found.tolerance:g} errors. Memory is of the whole process. {told(found.machine, found.provenance)}"
    )
    lines += ["", note, ""]
    return "\n".join(lines)


def told(machine: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """Return where and with what a measurement was made, in Markdown."""
    libraries = [f"{name} {provenance['libraries'][name]}" for name in _TIMED if name in provenance["libraries"]]
    return f"Machine: {plain(machine['processor'])}, cores: {machine['cores']}; {', '.join(libraries)}."


def _cells(one: Measured, found: Optimisation) -> list[str]:
    name = f"**{plain(one.variant.name)}**" if one.variant.name == found.chosen else plain(one.variant.name)
    times = [_time(one, size) for size in found.sizes]
    if one.fidelity is None:
        return [name, *times, *[""] * 8, plain(one.refused)]
    values = [_value(getattr(one.fidelity, key)) for key in ("fpd", "auc", "auc_plain")]
    sizes = [f"{one.load_seconds:.2f}", f"{one.first_seconds:.3f}", f"{one.peak_mb:.0f}", f"{one.graph_mb:.1f}"]
    verdict = f"refused: {plain(one.refused)}" if one.refused else "chosen" if one.variant.name == found.chosen else ""
    return [name, *times, f"{one.speed:.2f}", *values, *sizes, verdict]


def _time(one: Measured, size: int) -> str:
    if size not in one.ms:
        return ""
    time = one.ms[size]
    return f"{time.median:.3g} ({time.least:.3g} to {time.most:.3g})"


def _value(value: Value) -> str:
    return f"{value.value:.3g} ± {value.error:.1g}"


def plot_html(found: Optimisation) -> str:
    """Return the plot as one page that needs no other file, as Kubeflow's viewer demands."""
    content = io.BytesIO()
    draw(found, content)
    note = f"<p>{html.escape(found.chosen)}: {html.escape(found.why)}.</p>\n"
    return pictures_html("Optimisation", {"fidelity against time": content.getvalue()}, note=note)


def draw(found: Optimisation, path: Path | io.BytesIO) -> None:
    """Draw the distance from Geant4 against the time for a shower, alone and in bulk, as a PNG."""
    measured = [one for one in found.candidates if one.fidelity is not None and one.ms]
    with style():
        figure = Figure(figsize=(9.6, 5.2), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, size in zip(panels, (min(found.sizes), max(found.sizes)), strict=True):
            for number, one in enumerate(measured):
                if size not in one.ms or one.fidelity is None:
                    continue
                time, colour = one.ms[size], COLOURS[number % len(COLOURS)]
                axes.errorbar(
                    time.median, one.fidelity.fpd.value, one.fidelity.fpd.error,
                    [[time.median - time.least], [time.most - time.median]], color=colour, capsize=2,
                    marker="osD^vP*X"[number % 8], mfc=colour if not one.refused else "w",
                    ms=10 if one.variant.name == found.chosen else 6,
                    label=escaped(one.variant.name) + (" (chosen)" if one.variant.name == found.chosen else ""),
                )  # fmt: skip
            if found.floor is not None:
                axes.axhline(found.floor.fpd.value, color=BAND, ls="--")
            axes.set_xscale("log")
            axes.set_yscale("log")
            for axis in (axes.xaxis, axes.yaxis):
                number_decades(axis)
            axes.set_xlabel("time per shower [ms]")
            head(axes, f"{size} shower{'s' if size > 1 else ''} at once", package="caloforge" if size == 1 else "")
        panels[0].set_ylabel("Fréchet physics distance to Geant4")
        panels[1].text(
            0.02, 0.02, "open: refused; dashed: Geant4 itself", transform=panels[1].transAxes, color=LINE, fontsize=8
        )
        figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        figure.savefig(path, dpi=130, format="png")
