from __future__ import annotations

import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.geometry import load_geometry
from caloforge.preprocessing.coarsen import coarsen


def test_energy_is_kept_and_goes_where_it_should() -> None:
    fine = load_geometry("dataset_2")
    merged = coarsen(fine, layers=3, alpha=2, r=(1, 1, 2, 5), name="coarse")
    voxels = np.random.default_rng(0).random((5, fine.n_voxels), dtype=np.float32)
    coarse = merged.apply(voxels).reshape(5, 15, 8, 4)
    table = voxels.reshape(5, 15, 3, 8, 2, 9).sum((2, 4))
    assert np.allclose(coarse[..., 1], table[..., 1], rtol=1e-5)
    assert np.allclose(coarse[..., 3], table[..., 4:].sum(-1), rtol=1e-5)
    assert merged.geometry.active_layers[0].r_edges == (0, 4.65, 9.3, 18.6, 41.85)


def test_numbers_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="it has 45 layers, 16 alpha bins and 9 r bins"):
        coarsen(load_geometry("dataset_2"), layers=2, alpha=2, r=(9,), name="coarse")
