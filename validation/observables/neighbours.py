"""Observables of neighbours: does a layer know of the one before, a sector or a cell of the next, a ring of its hits."""

from __future__ import annotations

from itertools import pairwise

from caloforge.geometry import Geometry
from caloforge.validation.observables.observable import Observable
from caloforge.validation.observables.pairs import continued_layers, lags, sector_layers
from caloforge.validation.observables.summary import common_r_edges

LAYER_OVERLAP = Observable(
    "Overlap with the layer before", "", "Neighbours", lambda s: s.pairs.layer_overlap, continued_layers
)

SECTOR_KEPT = Observable(
    "Hottest sector kept from the layer before", "", "Neighbours", lambda s: s.pairs.sector_kept, sector_layers,
    label="Share of layers that keep the hottest sector", shown=lambda s: s.pairs.sector_kept.mean(axis=1),
)  # fmt: skip


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
