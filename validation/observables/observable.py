"""What an observable is: a number per shower, or per shower and layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Geometry
from caloforge.validation.observables.per_shower import over_layers
from caloforge.validation.observables.summary import Summary

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Observable:
    """A number per shower, or per shower and layer.

    Attributes:
        title: what it is called in tables, plain text.
        unit: its unit, empty for a pure number.
        group: heading of the report that its plot stands under.
        values: takes a summary to (N,) or (N, columns) values.
        layers: takes a geometry to the layers that the columns are of; without it they are of none.
        parts: of columns that are of no layers: takes a geometry to what they are, in the plural, and the name of each.
        log: whether it spans decades, so that bins are logarithmic.
        label: what the plot's axis says; the title if empty. Mathtext allowed.
        shown: takes a summary to the (N,) values of the plot; without it the mean over columns, of
            layers weighted by their energy.
    """

    title: str
    unit: str
    group: str
    values: Callable[[Summary], FloatArray]
    layers: Callable[[Geometry], Sequence[int]] | None = None
    log: bool = False
    label: str = ""
    shown: Callable[[Summary], FloatArray] | None = None
    parts: Callable[[Geometry], tuple[str, tuple[str, ...]]] | None = None

    def columns(self, summary: Summary) -> FloatArray:
        """Return the values as (N, columns); no columns if the geometry has no such thing."""
        values = self.values(summary)
        return values[:, None] if values.ndim == 1 else values

    def plotted(self, summary: Summary) -> FloatArray:
        """Return one number per shower, (N,)."""
        if self.shown is not None:
            return self.shown(summary)
        values = self.values(summary)
        if values.ndim == 1:
            return values
        return over_layers(summary, values, self.layers(summary.geometry)) if self.layers else values.mean(axis=1)

    def places(self, geometry: Geometry, n_columns: int) -> tuple[str, tuple[str, ...]]:
        """Return what the columns are, in the plural, and the name of each; nothing for a single one without layers.

        Raises:
            ValueError: there are other columns than the layers that it says.
        """
        if self.layers is not None:
            layers = self.layers(geometry)
            if len(layers) != n_columns:
                raise ValueError(
                    f"observable {self.title!r}: {n_columns} columns, but it is said to be of {len(layers)} layers"
                )
            return "layers", tuple(f"layer {i}" for i in layers)
        if self.parts is not None:
            return self.parts(geometry)
        return ("columns", tuple(f"column {i}" for i in range(n_columns))) if n_columns > 1 else ("", ())
