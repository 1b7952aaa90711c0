"""The tree of any mesh: every cell once, capacities and overlaps that add up, waves in a possible order."""

from __future__ import annotations

import numpy as np
import pytest

from caloforge.geometry import CylindricalGeometry, Layer, load_geometry
from caloforge.models.tree.layout import Splits
from caloforge.models.tree.ring_layout import RingLayout

ODD = CylindricalGeometry(
    "odd",
    (
        Layer(0, (0.0, 2.0, 5.0), 1),
        Layer(1, (0.0,), 1),
        Layer(2, (0.0, 1.0, 3.0, 9.0), 10),
        Layer(3, (1.0, 4.0), 6),
        Layer(4, (0.0, 1.0), 1),
    ),
)
MESHES = {name: load_geometry(name) for name in ("dataset_1_photons", "dataset_1_pions", "dataset_2", "siw_demo")} | {
    "odd": ODD
}


@pytest.fixture(scope="module", params=sorted(MESHES))
def layout(request: pytest.FixtureRequest) -> RingLayout:
    return RingLayout(MESHES[request.param])


def test_every_voxel_is_a_cell_of_the_tree_once(layout: RingLayout) -> None:
    cells = np.flatnonzero(layout.left == layout.nothing)
    assert np.array_equal(np.sort(layout.cell), cells)
    assert (layout.capacity[cells] == 1).all()
    layers = layout.geometry.active_layers
    for voxel in np.linspace(0, layout.geometry.n_voxels - 1, 50).astype(int):
        box = layout.boxes[layout.cell[voxel]]
        edges = layers[box.layer].r_edges
        assert box.layer == layout.geometry.layer_of_voxel[voxel]
        assert (edges[box.ring] + edges[box.ring + 1]) / 2 == pytest.approx(layout.geometry.r_of_voxel[voxel])
        alpha = (2 * box.bin + 1) * np.pi / layers[box.layer].n_alpha - np.pi
        assert alpha == pytest.approx(layout.geometry.alpha_of_voxel[voxel])


def test_halves_make_up_their_node(layout: RingLayout) -> None:
    splits = np.flatnonzero(layout.left != layout.nothing)
    halves = layout.capacity[layout.left[splits]] + layout.capacity[layout.right[splits]]
    assert np.array_equal(halves, layout.capacity[splits])
    assert layout.capacity[layout.layer_node].sum() == layout.geometry.n_voxels
    assert sorted([*layout.coarse.node, *layout.fine.node]) == splits.tolist()
    by_height = np.concatenate(layout.by_height)
    assert sorted(by_height) == splits.tolist()
    done = set(layout.cell.tolist())
    for nodes in layout.by_height:
        assert {*layout.left[nodes].tolist(), *layout.right[nodes].tolist()} <= done
        done |= set(nodes.tolist())


def test_a_cell_is_shared_out_once_over_the_layer_behind_it(layout: RingLayout) -> None:
    below = {m: [m] for m in layout.cell.tolist()}
    for nodes in layout.by_height:
        for m in nodes.tolist():
            below[m] = below[layout.left[m]] + below[layout.right[m]]
    given = np.zeros(len(layout))
    for m in layout.cell:
        for source, weight in zip(layout.source[m], layout.weight[m], strict=True):
            if weight:
                given[below[int(source)]] += weight
    last = layout.geometry.n_layers - 1
    for m in layout.cell:
        box = layout.boxes[m]
        assert given[m] == pytest.approx(0 if box.layer == last else 1)


def test_what_lies_over_a_node_lies_over_its_halves(layout: RingLayout) -> None:
    """Sums of a random layer on a node are those on its two halves, whatever the layers' meshes are."""
    cells = np.zeros(len(layout) + 1)
    cells[layout.cell] = np.random.default_rng(0).uniform(size=len(layout.cell))
    for nodes in layout.by_height:
        cells[nodes] = cells[layout.left[nodes]] + cells[layout.right[nodes]]
    over = (cells[layout.source] * layout.weight).sum(1)
    splits = np.flatnonzero(layout.left != layout.nothing)
    assert over[layout.left[splits]] + over[layout.right[splits]] == pytest.approx(over[splits])


@pytest.mark.parametrize("kind", ["coarse", "fine"])
def test_everything_that_a_split_needs_is_made_before_its_wave(layout: RingLayout, kind: str) -> None:
    table: Splits = getattr(layout, kind)
    known = {layout.nothing, *layout.layer_node.tolist()}
    if kind == "fine":
        known |= {m for m, box in enumerate(layout.boxes) if box.level == 0}

    def sources(nodes: list[int]) -> set[int]:
        real = [m for m in nodes if m != layout.nothing]
        return set(layout.source[real][layout.weight[real] > 0].tolist())

    for wave in table.waves:
        made: set[int] = set()
        for m, context in zip(table.node[wave], table.context[wave], strict=True):
            columns = dict(zip(table.names, context.tolist(), strict=True))
            before = [node for name, node in columns.items() if name.startswith("before/")]
            halves = [int(layout.left[m]), int(layout.right[m])]
            needed = {int(m)}
            needed |= {node for name, node in columns.items() if not name.startswith("before/")}
            needed |= sources(before) | sources(halves) | set(layout.below[halves].tolist())
            assert needed <= known
            made |= set(halves)
        assert not made & known
        known |= made
    assert len(known) == 1 + (len(layout) if kind == "fine" else sum(b.level == 0 for b in layout.boxes))


def test_context_of_a_halving_in_the_middle_of_dataset_2() -> None:
    layout = RingLayout(load_geometry("dataset_2"))
    node = layout.node(20, 3, 2, 4)  # bins 4 to 7 of ring 3, to be halved into 4, 5 | 6, 7
    row = layout.fine.node.tolist().index(node)
    seen = {
        name: layout.boxes[m] if m != layout.nothing else None
        for name, m in zip(layout.fine.names, layout.fine.context[row], strict=True)
    }
    assert {(seen[f"before/{k}"].bin, seen[f"before/{k}"].bin_end) for k in ("below", "left", "right", "above")} == {
        (2, 4), (4, 6), (6, 8), (8, 10),
    }  # fmt: skip
    assert seen["inner-left"].ring == 2
    assert seen["before/outer-right"].ring == 4
    assert (seen["below"].bin, seen["above"].bin) == (0, 8)
    assert layout.fine.odd[row]
    assert (seen["odd-below"].bin, seen["odd-above"].bin) == (2, 8)
    assert (seen["after"].layer, seen["after"].ring) == (21, 3)
    over = layout.boxes[layout.source[node, 0]]
    assert (over.layer, over.ring, over.bin, over.bin_end) == (19, 3, 4, 8)


def test_dataset_2_takes_few_waves() -> None:
    layout = RingLayout(load_geometry("dataset_2"))
    assert (len(layout.coarse.node), len(layout.fine.node)) == (45 * 8, 45 * 9 * 15)
    assert (len(layout.coarse.waves), len(layout.fine.waves)) == (96, 155)
