from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.geometry import load_geometry
from caloforge.preprocessing.convert import convert, inspect
from caloforge.preprocessing.readers.find import open_sources
from caloforge.showers import open_showers

SHAPES = {"layer_0": (3, 96), "layer_1": (12, 12), "layer_2": (12, 6)}


def file_of(path: Path, n: int = 6) -> Path:
    rng = np.random.default_rng(0)
    energy = rng.uniform(1, 100, (n, 1))  # GeV
    cells = rng.dirichlet(np.full(504, 0.2), n) * 1000 * energy * 0.9  # MeV
    with h5py.File(path, "w") as file:
        file["energy"] = energy
        start = 0
        for name, shape in SHAPES.items():
            stop = start + shape[0] * shape[1]
            file[name] = cells[:, start:stop].reshape(n, *shape)
            start = stop
        file["overflow"] = np.ones((n, 3))
    return path


def test_layers_become_cells_in_mev(tmp_path: Path) -> None:
    path = file_of(tmp_path / "gamma.hdf5")
    said = convert([path], tmp_path / "out.hdf5")
    assert said == {"format": "calogan", "geometry": "calogan", "showers": 6}
    showers = open_showers(tmp_path / "out.hdf5")
    voxels, mesh = showers.read(), showers.geometry
    assert mesh.difference(load_geometry("calogan")) is None
    with h5py.File(path) as file:
        assert np.allclose(showers.conditions.incident_energy, 1000 * file["energy"][:, 0])
        for cell, (name, row, column) in {
            95: ("layer_0", 0, 95),
            288 + 25: ("layer_1", 2, 1),
            503: ("layer_2", 11, 5),
        }.items():
            assert np.allclose(voxels[:, cell], file[name][:, row, column])
    # columns are eta, rows are phi
    assert mesh.eta_of_voxel[[0, 95, 503]].tolist() == [-237.5, 237.5, 200]
    assert mesh.phi_of_voxel[[0, 95, 503]].tolist() == [-160, -160, 220]
    assert inspect([path])["response"].startswith("0.9000")


def test_other_cells_are_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        del file["layer_1"]
        file["layer_1"] = np.ones((6, 12, 6))
    with pytest.raises(InputError, match=r"layer_1: expected shape \(6, 12, 12\), got \(6, 12, 6\)"):
        open_sources([path])
    with pytest.raises(InputError, match=r"has 504 cells, but geometry 'dataset_2' has 6480"):
        open_sources([file_of(tmp_path / "b.hdf5")], geometry="dataset_2")
    with h5py.File(tmp_path / "b.hdf5", "a") as file:
        del file["energy"]
    with pytest.raises(InputError, match=r"no reader takes that \(readers: calochallenge"):
        open_sources([tmp_path / "b.hdf5"])
