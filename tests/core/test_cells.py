"""Geometries of cells: tables of rectangles, and what they can say of themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.geometry import (
    Cell,
    CellGeometry,
    geometry_attributes,
    geometry_of,
    load_geometry,
)
from caloforge.showers import Conditions, open_showers, write_showers

HEAD = "channel,layer,x,y,width,height"


def grid(n: int, size: float = 10.0, *, layer: int = 0, name: str = "c") -> list[Cell]:
    """Return n x n square cells about the axis."""
    places = (np.arange(n) - (n - 1) / 2) * size
    return [Cell(f"{name}{i}-{j}", layer, x, y, size, size) for i, y in enumerate(places) for j, x in enumerate(places)]


def test_focal_h_prototype_2_has_the_published_cells() -> None:
    geometry = load_geometry("focal_h_prototype_2")
    assert isinstance(geometry, CellGeometry)
    assert (geometry.n_voxels, geometry.n_layers, geometry.form) == (249, 1, "csv")
    sizes, counts = np.unique(geometry.width_of_voxel, return_counts=True)
    assert sizes == pytest.approx([65 / 7, 13])
    assert counts.tolist() == [49, 200]
    assert np.abs(geometry.eta_of_voxel).max() + 13 / 2 == pytest.approx(97.5)
    assert len(geometry.symmetries) == 8
    # 40 edges within each outer module, 84 in the middle one, 5 between outer ones, 11 to each side of the middle.
    assert len(geometry.neighbours) == 8 * 40 + 84 + 8 * 5 + 4 * 11


def test_a_turn_moves_the_energy_by_a_quarter() -> None:
    geometry = load_geometry("focal_h_prototype_2")
    shower = np.zeros(249)
    shower[np.argmin(np.hypot(geometry.eta_of_voxel - 52, geometry.phi_of_voxel - 13))] = 1
    places = {
        (round(float(geometry.eta_of_voxel @ shower[order])), round(float(geometry.phi_of_voxel @ shower[order])))
        for order in geometry.symmetries
    }
    assert places == {(a * x, b * y) for x, y in ((52, 13), (13, 52)) for a in (-1, 1) for b in (-1, 1)}


@pytest.mark.parametrize(
    ("cells", "count"),
    [
        (grid(3), 8),
        ([replace(cell, width=20.0, x=2 * cell.x) for cell in grid(3)], 4),
        ([replace(cell, x=cell.x + 4.0) for cell in grid(3)], 2),
        ([replace(cell, x=cell.x + 4.0, y=cell.y + 1.0) for cell in grid(3)], 1),
        ([*grid(2), *grid(3, layer=1, name="d")], 8),
        ([*grid(3), *grid(3, layer=1, name="d")[1:]], 2),
        (
            [
                Cell(name, 0, x, y, width, height)
                for name, x, y, width, height in (
                    ("n", 0.5, 1.5, 3, 1),
                    ("e", 1.5, -0.5, 1, 3),
                    ("s", -0.5, -1.5, 3, 1),
                    ("w", -1.5, 0.5, 1, 3),
                )
            ],
            4,
        ),
        ([*grid(2), *[replace(cell, x=cell.x + 4.0) for cell in grid(3, layer=1, name="d")]], 2),
    ],
)
def test_symmetries_are_those_of_all_layers(cells: list[Cell], count: int) -> None:
    geometry = CellGeometry("cells", tuple(cells))
    assert len(geometry.symmetries) == count
    assert geometry.is_symmetric == (count > 1)
    for order in geometry.symmetries:
        assert (geometry.layer_of_voxel[order] == geometry.layer_of_voxel).all()


def test_cells_with_gaps_and_of_unequal_size_have_neighbours() -> None:
    table = (
        f"{HEAD}\nbig,2,0,0,20,20\nright,2,16,5,10,10\nabove,2,0,15.5,10,10\ncorner,2,16,15.5,10,10\nfar,2,40,0,10,10"
    )
    assert CellGeometry.from_text(table, name="mine").neighbours.tolist() == [[0, 1], [0, 2], [1, 3]]


def test_layers_keep_number_order_and_depth() -> None:
    text = f"{HEAD},z\na,3,0,0,1,1,12.5\nb,7,0,0,2,2,30\nc,7,2,0,2,2,30"
    geometry = CellGeometry.from_text(text, name="mine")
    assert (geometry.layer_sizes, geometry.layer_depths) == ((1, 2), (12.5, 30.0))
    assert geometry.layer_of_voxel.tolist() == [0, 1, 1]
    assert [cell.layer for cell in geometry.cells] == [3, 7, 7]
    assert geometry.transverse_layers == (1,)
    assert CellGeometry.from_text(geometry.to_text(), name="mine") == geometry


def test_a_channel_map_with_sizes_and_other_columns_is_a_table_of_cells(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_bytes(b"\xef\xbb\xbfboard,channel,module, x,y, size\r\n1,a,0,-5,0,10\r\n1,b,0,5,0,10\r\n")
    geometry = load_geometry(path)
    assert isinstance(geometry, CellGeometry)
    assert (geometry.name, geometry.eta_of_voxel.tolist(), geometry.height_of_voxel.tolist()) == (
        "map",
        [-5, 5],
        [10, 10],
    )


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "without channel, height, width, x, y it is none"),
        ("<Bins/>", "without channel"),
        ("channel,x,y,width\na,0,0,1", "without height it is none"),
        ("channel,x,y,size,width,height\na,0,0,1,1,1", "either size or width and height"),
        (HEAD, "has no cells"),
        (f"{HEAD}\na,0,0,0,1", "line 2: height must be a finite number in mm, got ''"),
        (f"{HEAD}\na,0,nan,0,1,1", "line 2: x must be a finite number in mm, got 'nan'"),
        (f"{HEAD}\na,0,0,1e9,1,1", "line 2: channel a: y must be a finite number in mm"),
        (f"{HEAD}\na,0,0,0,1,0", "line 2: channel a: height must be positive, got 0 mm"),
        (f"{HEAD}\na,0,0,0,1,-2", "line 2: channel a: height must be positive, got -2 mm"),
        (f"{HEAD}\na,one,0,0,1,1", "line 2: layer must be a whole number, got 'one'"),
        (f"{HEAD}\na,0,0,0,1,1\n,0,1,0,1,1", "line 3: the cell at x = 1, y = 0 mm of layer 0 has no channel"),
        (f"{HEAD}\na,0,0,0,1,1\na,0,1,0,1,1", "channel a is there twice"),
        (f"{HEAD}\na,1,0,0,1,1\nb,0,1,0,1,1", "layer 0 comes after layer 1; sort the cells by layer"),
        (f"{HEAD}\na,4,0,0,1,1\nb,4,0.5,0.9,1,1", r"layer 4: channel a \(1 x 1 mm at 0, 0\) and channel b .* overlap"),
        (f"{HEAD}\na,4,0,0,9,9\nb,4,1,1,1,1", "overlap; mend positions or sizes"),
        (f"{HEAD},z\na,4,0,0,1,1,5\nb,4,2,0,1,1,6", "line 3: layer 4 is at z = 6 mm, and before at 5"),
        (f"{HEAD},z\na,4,0,0,1,1,", "line 2: z must be a finite number in mm, got ''"),
        (f'{HEAD}\n"a,0,0,0,1,1', "not a CSV table"),
        (b"channel,x,y,size\n\xff,0,0,1", "not a CSV table in UTF-8"),
        (7, "expected the text of a table of cells, got int"),
    ],
)
def test_a_bad_table_is_named(text: str, match: str) -> None:
    with pytest.raises(InputError, match=f"mine: .*{match}"):
        CellGeometry.from_text(text, name="mine")


def test_many_cells_are_written_to_and_read_from_an_hdf5_file(tmp_path: Path) -> None:
    """A table of 200 kB is more than an attribute of fixed length can hold."""
    geometry = CellGeometry("many", tuple(grid(80, 3.3)))
    with write_showers(tmp_path / "showers.hdf5", geometry, attributes={}, provenance={}) as writer:
        writer.append(Conditions(np.asarray([1e3])), np.ones((1, 6400)))
    showers = open_showers(tmp_path / "showers.hdf5")
    assert showers.geometry == geometry
    assert showers.attributes["voxel_order"] == "layer, then the cells as in geometry_csv"


def test_an_attribute_that_is_no_table_is_named(tmp_path: Path) -> None:
    geometry, path = CellGeometry("four", tuple(grid(2))), tmp_path / "showers.hdf5"
    with write_showers(path, geometry, attributes={}, provenance={}) as writer:
        writer.append(Conditions(np.asarray([1e3])), np.ones((1, 4)))
    with h5py.File(path, "a") as file:
        file.attrs["geometry_csv"] = file.attrs["geometry_csv"].replace("\nc1-1,0,5,5", "\nc1-0,0,5,5")
    with pytest.raises(InputError, match=r"showers\.hdf5: attribute geometry_csv: four: channel c1-0 is there twice"):
        open_showers(path)


def test_geometries_say_how_they_differ() -> None:
    four = CellGeometry("four", tuple(grid(2)))
    assert four.difference(CellGeometry("other name", four.cells)) is None
    moved = CellGeometry("moved", (*four.cells[:3], replace(four.cells[3], x=5.5)))
    assert four.difference(moved) == (
        "cell 3 is channel c1-1 (10 x 10 mm at 5.5, 5), not channel c1-1 (10 x 10 mm at 5, 5)"
    )
    assert "it is 'nine' (1 layer, 9 voxels), not 'four'" in str(four.difference(CellGeometry("nine", tuple(grid(3)))))
    rings = load_geometry("dataset_2")
    assert "of cells, not 'dataset_2'" in str(rings.difference(four))
    assert "of rings, not 'four'" in str(four.difference(rings))
    assert rings.difference(load_geometry("dataset_3")) is not None


def test_without_an_attribute_there_is_no_geometry() -> None:
    attributes = geometry_attributes(CellGeometry("four", tuple(grid(2))))
    assert geometry_of({"geometry_name": attributes["geometry_name"]}, name="mine") is None
