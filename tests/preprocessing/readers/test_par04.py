from __future__ import annotations

import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from caloforge.cli import main
from caloforge.errors import InputError
from caloforge.geometry import load_geometry
from caloforge.preprocessing.convert import convert, inspect
from caloforge.preprocessing.readers.find import open_sources
from caloforge.preprocessing.readers.reader import ShowerStream
from caloforge.showers import open_showers

R, PHI, Z = 18, 50, 45


def deposits(
    n: int, shape: tuple[int, int, int] = (R, PHI, Z), *, energy: float = 1e4, seed: int = 0
) -> NDArray[np.float32]:
    """Return (n, R, PHI, Z) showers in which a sampling calorimeter sees 3 per cent of the energy."""
    rng = np.random.default_rng(seed)
    parts = rng.gamma(1.0, size=(n, *shape)) * (rng.random((n, *shape)) < 0.1)
    scale = 0.03 * np.broadcast_to(energy, n)[:, None, None, None]
    return (scale * parts / parts.sum((1, 2, 3), keepdims=True)).astype(np.float32)


def by_energy(path: Path, energies: tuple[int, ...] = (64, 1, 16), n: int = 3) -> Path:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        for energy in energies:
            file.create_dataset(
                str(energy), data=deposits(n, energy=1000 * energy, seed=energy), compression="gzip", compression_opts=1
            )
    return path


def arrays(path: Path, n: int = 4, *, shape: tuple[int, int, int] = (9, 16, 45), **columns: object) -> Path:
    energy = np.geomspace(1e3, 1e5, n)
    with h5py.File(path, "w") as file:
        file["showers"] = deposits(n, shape, energy=energy)
        file["incident_energy"] = energy
        for name, values in columns.items():
            file[name] = values
    return path


def voxels_of(stream: ShowerStream) -> NDArray[np.float32]:
    return np.concatenate([voxels for _, voxels in stream.pairs()])


def error_of(*words: str | Path) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_a_dataset_for_each_energy_is_turned_to_layer_alpha_r(tmp_path: Path) -> None:
    path = by_energy(tmp_path / "SiW" / "SiW_angle_70.h5")
    form, stream = open_sources([path])
    assert form == "par04_energies"
    assert stream.geometry == load_geometry("par04_siw")
    assert stream.conditions == ("incident_energy", "theta")
    pairs = list(stream.pairs())
    energies = np.concatenate([conditions.incident_energy for conditions, _ in pairs])
    assert energies.tolist() == [1e3] * 3 + [1.6e4] * 3 + [6.4e4] * 3  # rising, GeV to MeV
    for conditions, _ in pairs:
        assert np.allclose(conditions.theta, np.radians(70))
    voxels = voxels_of(stream)
    with h5py.File(path) as file:
        theirs = file["16"][1]
    for layer, alpha, r in itertools.product((0, 7, 44), (0, 49), (0, 17)):
        assert voxels[4, (layer * PHI + alpha) * R + r] == theirs[r, alpha, layer]
    assert voxels[4].sum(dtype=float) == pytest.approx(theirs.sum(dtype=float))


def test_angles_of_a_folder_become_one_sample_in_our_layout(tmp_path: Path) -> None:
    for angle in (50, 90):
        by_energy(tmp_path / "SciPb" / f"SciPb_angle_{angle}.h5")
    output = tmp_path / "out.hdf5"
    said = convert([tmp_path / "SciPb"], output)
    assert said == {"format": "par04_energies", "geometry": "par04_scipb", "showers": 18}
    showers = open_showers(output)
    assert np.unique(showers.conditions.theta).tolist() == pytest.approx([np.radians(50), np.pi / 2])
    assert showers.attributes["detector"] == "SciPb"
    assert showers.geometry.active_layers[0].r_edges[1] == 4.0
    assert "0.0300 ± 0.0000" in inspect([output])["response"]


def test_detectors_are_not_mixed(tmp_path: Path) -> None:
    for name in ("SiW", "SciPb"):
        by_energy(tmp_path / f"{name}_angle_90.h5")
    assert "its geometry is not that of" in error_of("inspect", tmp_path)


def test_a_mesh_of_as_many_voxels_is_no_challenge_dataset(tmp_path: Path) -> None:
    path = by_energy(tmp_path / "detector_a.h5")
    text = error_of("inspect", path)
    assert "18 x 50 x 45 (r, phi, z)" in text
    assert "give --geometry, a name (par04_siw, par04_scipb" in text
    assert open_sources([path], geometry="par04_scipb")[1].geometry.name == "par04_scipb"
    assert "its mesh is 18 x 50 x 45 (r, phi, z), but 'dataset_2' has" in error_of(
        "inspect", path, "--geometry", "dataset_2"
    )


@pytest.mark.parametrize("angle", ["0", "180", "270"])
def test_an_angle_at_which_no_particle_enters_is_refused(tmp_path: Path, angle: str) -> None:
    path = by_energy(tmp_path / f"SiW_angle_{angle}.h5")
    assert f"an angle of {angle} degrees, at which no particle enters a barrel" in error_of("inspect", path)


def test_energies_of_one_file_have_one_mesh(tmp_path: Path) -> None:
    path = by_energy(tmp_path / "SiW_angle_90.h5")
    with h5py.File(path, "a") as file:
        file["128"] = deposits(2, (9, 16, 45))
    assert "the mesh of '128' is (9, 16, 45), but that of '1' (18, 50, 45)" in error_of("inspect", path)


def test_the_layout_of_today_has_angles_if_it_says_so(tmp_path: Path) -> None:
    plain = arrays(tmp_path / "SiW_plain.h5")
    form, stream = open_sources([plain])
    assert form == "par04"
    assert stream.geometry.name == "par04_siw_coarse"
    assert stream.conditions == ("incident_energy",)
    theta, phi = np.array([0.9, 1.0, 1.5, 2.2]), np.array([[-3.0], [0], [1], [3]])
    path = arrays(tmp_path / "LEMURS_Par04SiW_gamma.h5", incident_theta=theta, incident_phi=phi)
    form, stream = open_sources([path])
    conditions, voxels = next(stream.pairs())
    assert conditions.names == ("incident_energy", "theta", "phi")
    assert conditions.theta is not None
    assert conditions.theta.tolist() == theta.tolist()
    with h5py.File(path) as file:
        assert voxels[2, (7 * 16 + 3) * 9 + 5] == file["showers"][2, 5, 3, 7]


def test_what_does_not_fit_in_the_layout_of_today_is_named(tmp_path: Path) -> None:
    path = arrays(tmp_path / "SiW_a.h5", incident_theta=np.full(4, 70.0))
    assert "incident_theta: row 0 is 70" in error_of("inspect", path)
    path = arrays(tmp_path / "SiW_b.h5", incident_theta=np.array([1.0, 1, 0, 1]))
    assert "row 2 is 0 rad, along the axis of the barrel" in error_of("inspect", path)
    path = arrays(tmp_path / "SiW_c.h5", incident_theta=np.ones(3))
    assert "incident_theta: expected shape (4,), as many as showers, got (3,)" in error_of("inspect", path)
    path = arrays(tmp_path / "ODD_d.h5")
    assert "of ODD, whose sizes of cells are not known: give --geometry" in error_of("inspect", path)


def test_other_units_are_refused_or_doubted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = arrays(tmp_path / "SiW_a.h5")
    with h5py.File(path, "a") as file:
        file["showers"][:] = file["showers"][()] / 1000
    assert "are the voxels in GeV" in inspect([path])["problems"]
    convert([path], tmp_path / "out.hdf5")
    assert "are the voxels in GeV" in caplog.text
    with h5py.File(path, "a") as file:
        file["showers"].attrs["unit"] = "GeV"
    assert "showers: says that its unit is GeV; expected MeV" in error_of("inspect", path)


def test_a_compound_dataset_of_events(tmp_path: Path) -> None:
    path = tmp_path / "LEMURS_Par04SiW_gamma.h5"
    kind = [("showers", "f4", (9, 16, 45)), ("incident_energy", "f4"), ("incident_theta", "f4"), ("incident_phi", "f4")]
    events = np.zeros(5, dtype=kind)
    events["showers"] = deposits(5, (9, 16, 45))
    events["incident_energy"], events["incident_theta"], events["incident_phi"] = 1e4, np.linspace(1, 2, 5), 0.5
    with h5py.File(path, "w") as file:
        file["events"] = events
    form, stream = open_sources([path])
    assert form == "lemurs"
    conditions, voxels = next(stream.pairs())
    assert conditions.names == ("incident_energy", "theta", "phi")
    assert conditions.theta is not None
    assert np.allclose(conditions.theta, events["incident_theta"])
    assert voxels[3, (44 * 16 + 15) * 9 + 8] == events["showers"][3, 8, 15, 44]
    assert voxels[3].sum() == pytest.approx(events["showers"][3].sum(), rel=1e-5)
    with h5py.File(path, "a") as file:
        del file["events"]
        file["events"] = np.zeros(5, dtype=[("showers", "f4", (9, 16, 45)), ("energy", "f4")])
    text = error_of("inspect", path, "--format", "lemurs")
    assert "events: has no field 'incident_energy' (found: showers, energy)" in text
    assert "events (5,) of showers, energy" in error_of("inspect", path)


def test_chunks_of_many_rows_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "SiW.h5"
    n, shape = 40, (9, 16, 45)
    with h5py.File(path, "w") as file:
        file.create_dataset("showers", data=deposits(n, shape), chunks=(16, *shape), compression="gzip")
        file["incident_energy"] = np.full(n, 1e4)
    monkeypatch.setattr("caloforge.preprocessing.readers.mesh.CHUNK_BYTES", 4 * 6480 * 3)
    assert [len(voxels) for _, voxels in open_sources([path])[1].pairs()] == [16, 16, 8]


def test_the_angle_of_a_name_is_no_number_of_it(tmp_path: Path) -> None:
    path = by_energy(tmp_path / "detector_SiW_eM_64GeV_angle70_250kevents_part1.h5")
    conditions, _ = next(open_sources([path])[1].pairs())
    assert conditions.theta is not None
    assert conditions.theta[0] == pytest.approx(np.radians(70))
    with pytest.raises(InputError, match="no dataset"):
        open_sources([arrays(tmp_path / "SiW.h5")], form="par04_energies")
