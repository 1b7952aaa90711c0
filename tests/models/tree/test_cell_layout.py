"""The tree of cells: a partition down to cells, with all that a split sees known when it is drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cell_grids import focal, grid, unlike_cells

from caloforge.errors import InputError
from caloforge.geometry import Cell, CellGeometry
from caloforge.models.tree.cell_layout import FINE, CellLayout
from caloforge.models.tree.layout import Splits


def pinwheel() -> CellGeometry:
    """Return five cells that no straight cut parts without going through one."""
    sides = [("n", 0.5, 1.5, 3, 1), ("e", 1.5, -0.5, 1, 3), ("s", -0.5, -1.5, 3, 1), ("w", -1.5, 0.5, 1, 3)]
    cells = [Cell(name, 0, x, y, width, height) for name, x, y, width, height in sides]
    return CellGeometry("pinwheel", (*cells, Cell("middle", 0, 0.0, 0.0, 2.0, 2.0)))


GEOMETRIES = {"focal": focal, "unlike": unlike_cells, "pinwheel": pinwheel}


@pytest.fixture(params=sorted(GEOMETRIES))
def layout(request: pytest.FixtureRequest) -> CellLayout:
    return CellLayout(GEOMETRIES[request.param]())


def test_every_cell_is_a_node_once_and_halves_make_up_their_node(layout: CellLayout) -> None:
    geometry = layout.geometry
    assert len(set(layout.cell.tolist())) == geometry.n_voxels
    assert (layout.capacity[layout.cell] == 1).all()
    for m, piece in enumerate(layout.pieces):
        assert (geometry.layer_of_voxel[piece.cells] == piece.layer).all()
        if layout.capacity[m] > 1:
            halves = [layout.pieces[side[m]].cells.tolist() for side in (layout.left, layout.right)]
            assert sorted(halves[0] + halves[1]) == sorted(piece.cells.tolist())
            assert min(map(len, halves)) >= 1
    split = sorted([*layout.coarse.node, *layout.fine.node])
    assert split == np.flatnonzero(layout.capacity > 1).tolist()
    assert (layout.capacity[layout.coarse.node] > FINE).all()


def test_cuts_go_through_no_cell_and_are_even() -> None:
    layout = CellLayout(focal())
    for m in np.flatnonzero(layout.capacity > 1):
        axis = layout.pieces[m].axis
        low, high = layout.boxes[layout.left[m], axis], layout.boxes[layout.right[m], axis]
        assert low[1] <= high[0] + 1e-9
        smaller = min(layout.capacity[layout.left[m]], layout.capacity[layout.right[m]])
        assert smaller >= 0.28 * layout.capacity[m]


def test_what_lies_over_a_node_lies_over_its_halves(layout: CellLayout) -> None:
    """Of each cell of the layer before, all of its area that lies over a node is over one of the halves."""
    assert np.allclose(layout.weight.sum(1)[layout.layer_node[1:]], 1)

    def cells_over(m: int) -> np.ndarray:
        found = np.zeros(layout.geometry.n_voxels)
        for node, share in zip(layout.source[m], layout.weight[m], strict=True):
            if share:
                found[layout.pieces[node].cells] += share
        return found

    for m in np.flatnonzero((layout.capacity > 1) & (layout.layer > 0)):
        # A whole layer has all of the one before, also what lies beside it; small pieces are seen more finely.
        if m not in layout.layer_node and not (layout._is_made_early(m) and layout.capacity[m] <= FINE):
            halves = cells_over(layout.left[m]) + cells_over(layout.right[m])
            assert halves == pytest.approx(cells_over(m), abs=1e-9)


def test_everything_that_a_split_needs_is_made_before_its_wave(layout: CellLayout) -> None:
    known = {layout.nothing, *layout.layer_node.tolist()}

    def sources(nodes: list[int]) -> set[int]:
        real = [m for m in nodes if m != layout.nothing]
        return set(layout.source[real][layout.weight[real] > 0].tolist())

    for table in (layout.coarse, layout.fine):
        for wave in table.waves:
            made: set[int] = set()
            for m, context in zip(table.node[wave], table.context[wave], strict=True):
                columns = dict(zip(table.names, context.tolist(), strict=True))
                before = [node for name, node in columns.items() if name.startswith("before/")]
                halves = [int(layout.left[m]), int(layout.right[m])]
                seen = {node for name, node in columns.items() if not name.startswith("before/")}
                assert {int(m)} | seen | sources(before) | sources(halves) <= known
                made |= set(halves)
            known |= made
    assert len(known) == len(layout) + 1


def test_a_split_sees_what_lies_beside_its_halves() -> None:
    layout = CellLayout(CellGeometry("grid", tuple(grid(4))))
    table: Splits = layout.fine
    for m, context in zip(table.node, table.context, strict=True):
        columns = dict(zip(table.names, context.tolist(), strict=True))
        axis = layout.pieces[m].axis
        for name, half, along, sign in (
            ("below", layout.left[m], axis, -1), ("above", layout.right[m], axis, 1),
            ("first-minus", layout.left[m], 1 - axis, -1), ("second-plus", layout.right[m], 1 - axis, 1),
        ):  # fmt: skip
            box, edge = layout.boxes[half], (1 + sign) // 2
            if columns[name] == layout.nothing:
                assert abs(box[along, edge]) == 20  # at the edge of the grid
            else:
                assert layout.boxes[columns[name], along, 1 - edge] == pytest.approx(box[along, edge])


def test_a_layer_of_very_many_cells_is_refused() -> None:
    cells = tuple(replace(cell, channel=str(i)) for i, cell in enumerate(grid(64)))
    with pytest.raises(InputError, match="layer of 4096 cells; family tree takes 4000 at most"):
        CellLayout(CellGeometry("many", cells))
