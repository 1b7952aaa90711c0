"""Ticks that are drawn as one path for each axis.

matplotlib makes two lines and two texts of every tick, which is half of the time that a plot takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
"""Numbers are plain text: mathtext takes milliseconds for each."""

LENGTH = 0.07
"""Of a major tick in inches."""


def draw_ticks(
    axes: Axes, *, x_labels: bool = True, y_labels: bool = True, n_x: int = 7, n_y: int = 6,
    whole_x: bool = False, y_at: Sequence[float] = (),
) -> None:  # fmt: skip
    """Draw inward ticks on all four sides of axes whose limits and scales are final.

    Args:
        axes: where; matplotlib's own ticks are switched off.
        x_labels: write the numbers below the frame.
        y_labels: write the numbers left of it.
        n_x: at most so many intervals on the horizontal axis.
        n_y: at most so many intervals on the vertical axis.
        whole_x: only whole numbers on the horizontal axis.
        y_at: where the vertical axis has its numbers; empty: at round ones.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    width, height = axes.get_position().size * figure.get_size_inches()
    low, high = axes.get_xlim()
    major, minor, labels = (
        _log_ticks(low, high) if axes.get_xscale() == "log" else _linear_ticks(low, high, n_x, whole=whole_x)
    )
    _draw(axes, "x", major, minor, LENGTH / height)
    if x_labels:
        _write(axes, "x", major, labels)
    low, high = axes.get_ylim()
    if y_at:
        major, labels = np.asarray(y_at), _plain_labels(np.asarray(y_at))
        minor = (major[1:] + major[:-1]) / 2
    else:
        major, minor, labels = _log_ticks(low, high) if axes.get_yscale() == "log" else _linear_ticks(low, high, n_y)
    _draw(axes, "y", major, minor, LENGTH / width)
    if y_labels:
        _write(axes, "y", major, labels)


def _draw(axes: Axes, which: Literal["x", "y"], major: FloatArray, minor: FloatArray, length: float) -> None:
    lines = [
        ((place, side), (place, side + sign * size))
        for places, size in ((major, length), (minor, length / 2))
        for place in places
        for side, sign in ((0, 1), (1, -1))
    ]
    if which == "y":
        lines = [((a[1], a[0]), (b[1], b[0])) for a, b in lines]
    axis, transform = (
        (axes.xaxis, axes.get_xaxis_transform()) if which == "x" else (axes.yaxis, axes.get_yaxis_transform())
    )
    axis.set_ticks([])
    axis.set_ticks([], minor=True)
    axes.add_collection(LineCollection(lines, colors="black", linewidths=0.8, transform=transform), autolim=False)


def _write(axes: Axes, which: Literal["x", "y"], places: FloatArray, labels: list[str]) -> None:
    for place, label in zip(places, labels, strict=True):
        if which == "x":
            axes.annotate(
                label, (place, 0), xycoords=axes.get_xaxis_transform(), xytext=(0, -3), textcoords="offset points",
                ha="center", va="top", annotation_clip=False,
            )  # fmt: skip
        else:
            axes.annotate(
                label, (0, place), xycoords=axes.get_yaxis_transform(), xytext=(-3, 0), textcoords="offset points",
                ha="right", va="center", annotation_clip=False,
            )  # fmt: skip


def _inside(places: FloatArray, low: float, high: float) -> FloatArray:
    margin = 1e-6 * (high - low)
    return places[(places >= low - margin) & (places <= high + margin)]


def _linear_ticks(low: float, high: float, n: int, *, whole: bool = False) -> tuple[FloatArray, FloatArray, list[str]]:
    every = np.asarray(
        MaxNLocator(n, steps=[1, 2, 5, 10] if whole else [1, 2, 2.5, 5, 10], integer=whole).tick_values(low, high)
    )
    minor = np.linspace(every[0], every[-1], 2 * len(every) - 1)[1::2]
    major = _inside(every, low, high)
    return major, _inside(minor, low, high), _plain_labels(major)


def _plain_labels(places: FloatArray) -> list[str]:
    """Return evenly spaced numbers with as many digits as tell them apart."""
    if len(places) == 0:
        return []
    largest = float(np.abs(places).max())
    step = float(np.diff(places).min()) if len(places) > 1 else largest or 1.0
    if largest >= 1e6 or (0 < largest < 1e-3):
        return [f"{place:.3g}" for place in places]
    digits = next((n for n in range(10) if abs(round(step, n) - step) < 1e-6 * step), 9)
    return [f"{place + 0.0:.{digits}f}" for place in np.round(places, digits)]


def _log_ticks(low: float, high: float) -> tuple[FloatArray, FloatArray, list[str]]:
    decades = float(np.log10(high / low))
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    every = _multiples(first - 1, last, range(1, 10))
    if decades < (2 if low < 1e-2 else 4):
        subs = (1, 2, 5) if decades > 0.7 else (1, 2, 3, 4, 5, 6, 8)
        major = _inside(_multiples(first - 1, last, subs), low, high)
        return major, _inside(every, low, high), [f"{place:g}" for place in major]
    step = math.ceil(decades / 7)
    powers = range(first, last + 1, step)
    minor = every if step == 1 else _multiples(first, last, (1,))
    labels = [f"10{str(power).translate(_SUPERSCRIPTS)}" for power in powers]
    return np.asarray([10.0**power for power in powers]), _inside(minor, low, high), labels


def _multiples(first: int, last: int, factors: Iterable[int]) -> FloatArray:
    """Return the multiples of the powers of ten from ``first`` to ``last``, rising."""
    factors = tuple(factors)
    return np.asarray([factor * 10.0**power for power in range(first, last + 1) for factor in factors])
