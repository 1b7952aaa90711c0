"""Nodes that share a slot are never needed at the same time."""

from __future__ import annotations

import numpy as np
import pytest

from caloforge.geometry import CylindricalGeometry, Geometry, Layer, load_geometry
from caloforge.models.tree.boxes import BoxSplits
from caloforge.models.tree.ring_layout import RingLayout
from caloforge.models.tree.slots import WaveNodes, find_slots
from caloforge.models.tree.state import TreeState

ODD = CylindricalGeometry(
    "odd",
    (Layer(0, (0.0, 2.0, 5.0), 1), Layer(1, (0.0,), 1), Layer(2, (0.0, 1.0, 3.0, 9.0), 10), Layer(3, (1.0, 4.0), 6)),
)


def waves_of(layout: RingLayout) -> list[WaveNodes]:
    tree = TreeState(layout)
    rings = BoxSplits(layout, layout.coarse, threshold=0.5, n_about=8)
    cells = BoxSplits(layout, layout.fine, threshold=0.5, n_about=8, early_layers=2)
    return [*rings.wave_nodes(tree), *cells.wave_nodes(tree)]


@pytest.mark.parametrize(
    "geometry", [ODD, *map(load_geometry, ("siw_demo", "dataset_1_pions", "dataset_2"))], ids=lambda g: g.name
)
def test_what_a_wave_reads_is_still_there(geometry: Geometry) -> None:
    layout = RingLayout(geometry)
    waves = waves_of(layout)
    slots = find_slots(layout, waves)
    assert slots.nothing < (1000 if geometry.name == "dataset_2" else layout.nothing)  # of 12,915 nodes
    holds = np.full(slots.nothing + 1, -1)
    holds[slots.of[layout.layer_node]] = layout.layer_node
    holds[slots.nothing] = layout.nothing
    for wave in waves:
        assert np.array_equal(holds[slots.of[wave.read]], wave.read)
        at = slots.of[wave.made]
        assert len(np.unique(at)) == len(at)
        assert at.max() < slots.nothing
        holds[at] = wave.made
