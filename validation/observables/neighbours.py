"""Observables of neighbours: does a layer know of the one before, a sector or a cell of the next, a ring of its hits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Geometry
from caloforge.validation.observables.observable import Observable
from caloforge.validation.observables.pairs import continued_layers, lags
from caloforge.validation.observables.summary import common_r_edges

FloatArray = NDArray[np.float64]

LAYER_OVERLAP = Observable(
    "Overlap with the layer before", "", "Neighbours", lambda s: s.pairs.layer_overlap, continued_layers
)

SECTOR_KEPT = Observable(
    "Hottest sector kept from the layer before", "", "Neighbours", lambda s: _mean_column(s.pairs.sector_kept),
    label="Share of layers that keep the hottest sector",
)  # fmt: skip
"""The mean over layers: a shower says yes or no of each, which alone tells little."""


def _mean_column(values: FloatArray) -> FloatArray:
    """Return the mean of (N, C) as (N, 1), or (N, 0) where there is nothing to average."""
    return values.mean(axis=1, keepdims=True) if values.shape[1] else values


def _lag_names(geometry: Geometry) -> tuple[str, tuple[str, ...]]:
    return "distances", tuple(f"{lag} sector{'s' * (lag > 1)} apart" for lag in lags(geometry))


ALPHA_CORRELATION = Observable(
    "Two-point correlation in alpha", "", "Neighbours", lambda s: s.pairs.alpha_correlation, parts=_lag_names,
    label="Two-point correlation of next sectors", shown=lambda s: s.pairs.alpha_correlation[:, 0],
)  # fmt: skip


def _ring_names(geometry: Geometry) -> tuple[str, tuple[str, ...]]:
    edges = pairwise(common_r_edges(geometry).tolist())
    return "rings", tuple(f"ring from {low:g} to {high:g} mm" for low, high in edges)


RING_HITS = Observable(
    "Voxels above threshold in a ring", "", "Neighbours",
    lambda s: s.pairs.ring_hits if s.pairs.ring_hits.shape[1] > 1 else s.pairs.ring_hits[:, :0], parts=_ring_names,
    label="Voxels above threshold in the innermost ring", shown=lambda s: s.pairs.ring_hits[:, 0],
)  # fmt: skip

NEIGHBOUR_CORRELATION = Observable(
    "Two-point correlation of neighbouring cells", "", "Neighbours", lambda s: s.pairs.neighbour_correlation
)
