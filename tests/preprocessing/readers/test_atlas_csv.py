from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.geometry import load_geometry
from caloforge.preprocessing.convert import convert, inspect
from caloforge.preprocessing.readers.find import open_sources
from caloforge.showers import open_showers


def table(
    folder: Path, *, pid: int = 22, energy: int = 1024, columns: int = 368, n: int = 5, eta: str = "20_25"
) -> Path:
    rng = np.random.default_rng(energy)
    values = rng.dirichlet(np.ones(columns), n) * energy
    values[0, :3] = -0.5
    path = folder / f"pid{pid}_E{energy}_eta_{eta}_voxalisation.csv"
    np.savetxt(path, values, delimiter=",", fmt="%.6g")
    return path


def test_energies_of_a_folder_are_one_sample(tmp_path: Path) -> None:
    folder = tmp_path / "photons"
    folder.mkdir()
    for energy in (256, 4096):
        table(folder, energy=energy)
    said = convert([folder], tmp_path / "out.hdf5")
    assert said == {"format": "atlas_csv", "geometry": "dataset_1_photons", "showers": 10}
    showers = open_showers(tmp_path / "out.hdf5")
    assert showers.geometry == load_geometry("dataset_1_photons")
    assert sorted(set(showers.conditions.incident_energy)) == [256, 4096]
    assert showers.conditions.particle is not None
    assert set(showers.conditions.particle) == {22}
    assert showers.attributes["eta"] == "0.20 to 0.25"
    voxels = showers.read()
    assert (voxels[0, :3] == 0).all()
    theirs = np.loadtxt(folder / "pid22_E256_eta_20_25_voxalisation.csv", delimiter=",")
    assert np.allclose(voxels[1:5], theirs[1:], rtol=1e-6)
    assert inspect([folder])["problems"] == "none"


def test_the_mesh_of_another_slice_is_asked_for(tmp_path: Path) -> None:
    other = table(tmp_path, eta="100_105")
    with pytest.raises(
        InputError, match=r"particle 22 at a pseudorapidity of 1\.00 to 1\.05 is not known; give its binning"
    ):
        open_sources([other])
    assert len(open_sources([other], geometry="dataset_1_photons")[1]) == 5
    with pytest.raises(InputError, match="has 368 columns, but geometry 'dataset_1_pions' has 533"):
        open_sources([table(tmp_path, pid=211)])


def test_a_line_that_is_cut_off_or_no_numbers_is_named(tmp_path: Path) -> None:
    path = table(tmp_path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(InputError, match="after line 0"):
        list(open_sources([path])[1].pairs())
    path.write_text(text.replace(",", ",x", 1), encoding="utf-8")
    with pytest.raises(InputError, match="after line 0"):
        list(open_sources([path])[1].pairs())
    path.write_text(text.rstrip("\n"), encoding="utf-8")
    assert len(open_sources([path])[1]) == 5
