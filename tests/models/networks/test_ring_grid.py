"""Layers of unlike rings on one grid, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caloforge.geometry import CylindricalGeometry, Layer, load_geometry
from caloforge.models.networks.ring_grid import RingGrid

UNLIKE = CylindricalGeometry(
    "unlike",
    (
        Layer(0, (0.0, 2.0, 4.0), 1),
        Layer(1, (0.0,), 1),
        Layer(2, (0.0, 1.0, 2.0, 3.0, 4.0), 6),
        Layer(3, (0.0, 4.0), 3),
    ),
)


def test_alike_layers_only_take_their_shape() -> None:
    geometry = load_geometry("siw_demo")
    grid = RingGrid(geometry)
    assert grid.shape == (15, 8, 4)
    assert not list(grid.parameters())
    x = torch.randn(3, 480)
    table = grid.to_grid(x)
    assert table[1, 2, 3, 1] == x[1, 2 * 32 + 3 * 4 + 1]
    assert torch.equal(grid.to_voxels(torch.stack([table, 2 * table], 1)), torch.stack([x, 2 * x], 2))


@pytest.mark.parametrize("name", ["dataset_1_photons", "dataset_1_pions", "siw_demo"])
def test_what_is_the_same_everywhere_stays_so(name: str) -> None:
    """Means over shared areas: constants pass, but where the grid has rings beyond a layer's edge."""
    geometry = load_geometry(name)
    grid = RingGrid(geometry)
    table = grid.to_grid(torch.ones(1, geometry.n_voxels))
    assert set(table.detach().round(decimals=5).unique().tolist()) <= {0.0, 1.0}
    back = grid.to_voxels(torch.ones(1, 2, *grid.shape))
    assert torch.allclose(back, torch.ones(1, geometry.n_voxels, 2), atol=1e-5)


def test_a_ring_is_spread_by_the_area_that_it_shares() -> None:
    grid = RingGrid(UNLIKE)
    assert grid.shape == (3, 6, 4)
    assert np.array_equal(grid.r_edges, [0, 1, 2, 3, 4])
    x = torch.arange(UNLIKE.n_voxels, dtype=torch.float32)[None]
    table = grid.to_grid(x)[0]
    # Layer 0 has one sector of two rings; each of them is two rings of the grid.
    assert torch.equal(table[0], torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(6, 4))
    assert torch.equal(table[1], x[0, 2:26].reshape(6, 4))
    # The last one has three sectors of one ring.
    assert torch.equal(table[2, :, 0], torch.tensor([26.0, 26, 27, 27, 28, 28]))
    # On the way back rings count by their areas: 1 and 3 of 4, 5 and 7 of 12.
    rings = grid.to_voxels(torch.tensor([10.0, 20.0, 30.0, 40.0]).expand(1, 1, 3, 6, 4))[0, :, 0]
    assert rings[:2].tolist() == pytest.approx([17.5, (5 * 30 + 7 * 40) / 12])
    assert rings[-1].item() == pytest.approx((10 + 3 * 20 + 5 * 30 + 7 * 40) / 16)


def test_sectors_are_averaged_on_the_way_back() -> None:
    grid = RingGrid(UNLIKE)
    table = torch.arange(6.0)[:, None].expand(1, 1, 3, 6, 4)
    back = grid.to_voxels(table)[0, :, 0]
    assert back[:2].tolist() == pytest.approx([2.5, 2.5])
    assert back[2:26].reshape(6, 4)[:, 0].tolist() == pytest.approx(list(range(6)))
    assert back[-3:].tolist() == pytest.approx([0.5, 2.5, 4.5])


def test_what_is_seen_comes_back_where_it_was() -> None:
    """Unlike layers: the grid keeps the voxels of the layer whose rings it has."""
    grid = RingGrid(UNLIKE)
    x = torch.randn(4, UNLIKE.n_voxels)
    back = grid.to_voxels(grid.to_grid(x)[:, None])[:, :, 0]
    assert torch.allclose(back, x, atol=1e-6)
