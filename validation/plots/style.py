"""What all plots have in common: colours, fonts, the heading, and how a plot is saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from PIL import Image

REFERENCE = "Geant4"

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
"""Colours that stay apart for colour-blind readers (Okabe and Ito 2008); a generator keeps its own in all plots."""

FILL, LINE, BAND = "#dcdce0", "#52525b", "#a1a1aa"
DPI = 130

_RC: Any = {
    "font.size": 9.0,
    "axes.labelsize": 10.0,
    "axes.linewidth": 0.9,
    "axes.formatter.limits": (-3, 5),
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.6,
    "path.simplify": True,
    "path.simplify_threshold": 1.0,
    "pdf.fonttype": 3,  # small files, quickly written; text can be selected
}


@contextmanager
def style() -> Iterator[None]:
    """Draw and save as this package does, whatever the user's own matplotlib settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Save a figure as PNG for the report and as PDF for papers; return the PNG's path.

    The PNG has 256 colours: a third of the size, which lets all plots of several generators into one report.
    """
    path = folder / f"{name}.png"
    figure.set_dpi(DPI)
    pixels = BytesIO()
    figure.savefig(pixels, format="rgba", dpi=DPI)
    image = Image.frombytes("RGBA", figure.canvas.get_width_height(), pixels.getvalue()).convert("RGB")
    image = image.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    image.save(path, compress_level=6, dpi=(DPI, DPI))
    figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})  # same plot, same file
    return path


def colours(n: int) -> list[str]:
    """Return the colours of n generators."""
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def escaped(name: str) -> str:
    """Return a name as matplotlib prints it literally; a leading underscore would hide a legend entry."""
    text = name.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def head(axes: Axes, note: str, *, package: str = "caloforge") -> None:
    """Write the heading above a frame: the package on the left, what the showers are on the right."""
    axes.text(0, 1.015, package, transform=axes.transAxes, fontsize=10, weight="bold", va="bottom")
    axes.text(1, 1.015, note, transform=axes.transAxes, fontsize=9, ha="right", va="bottom", color=LINE)


def number_decades(axis: XAxis | YAxis) -> None:
    """Number 1, 2 and 5 of each decade of a logarithmic axis that spans few; matplotlib numbers all nine or none."""
    low, high = axis.get_view_interval()
    if high < 1e3 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
