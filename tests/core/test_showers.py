from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.geometry import CylindricalGeometry, Layer, load_geometry
from caloforge.showers import Conditions, cut, open_showers, write_showers

MESH = CylindricalGeometry("mesh", tuple(Layer(i, (0.0, 1.0, 2.0), 3) for i in range(4)))


def raw_file(path: Path, n: int = 5, voxels: int = 368, **datasets: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["incident_energies"] = np.full((n, 1), 1000.0)
        file["showers"] = np.ones((n, voxels))
        for name, values in datasets.items():
            del file[name]
            file[name] = values
    return path


def test_pseudorapidity_is_read_as_polar_angle(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "eta.hdf5")
    with h5py.File(path, "a") as file:
        file["incident_eta"] = np.asarray([[0.0], [1.0], [3.4], [5.8], [-2.0]])
    conditions = open_showers(path).select([0, 2]).conditions
    assert conditions.names == ("incident_energy", "theta")
    assert conditions.theta is not None
    assert np.allclose(np.cos(conditions.theta), np.tanh([0.0, 3.4]))
    with h5py.File(path, "a") as file:
        del file["incident_eta"]
        file["incident_eta"] = np.zeros((4, 1))
    with pytest.raises(InputError, match="incident_eta has 4 rows but showers has 5"):
        open_showers(path)


def test_written_showers_are_read_back_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    voxels = rng.random((700, MESH.n_voxels), dtype=np.float32)
    particle = rng.choice(np.array([11, -211, 1000020040]), 700)
    conditions = Conditions(rng.uniform(1e3, 1e5, 700), theta=rng.random(700), phi=rng.random(700), particle=particle)
    path = tmp_path / "showers.hdf5"
    with write_showers(path, MESH, attributes={"energy_threshold": 0.1}, provenance={"seed": 3}) as writer:
        for rows in (slice(0, 300), slice(300, 700)):
            writer.append(conditions.take(rows), voxels[rows])
    showers = open_showers(path)
    assert showers.geometry == MESH
    assert showers.threshold == 0.1
    assert json.loads(showers.attributes["provenance"]) == {"seed": 3}
    assert np.array_equal(showers.read(), voxels)
    assert np.allclose(showers.conditions.incident_energy, conditions.incident_energy)
    assert showers.conditions.names == ("incident_energy", "theta", "phi", "particle")
    read = showers.conditions.particle
    assert read is not None
    assert read.dtype == np.int64
    assert np.array_equal(read, particle)
    part = showers.select([3, 500]).conditions
    assert np.array_equal(Conditions.joined([part, part]).particle, particle[[3, 500, 3, 500]])
    with h5py.File(path) as file:  # any CaloChallenge tool reads these two
        assert file["incident_energies"].shape == (700, 1)
        assert file["showers"].shape == (700, MESH.n_voxels)
        assert file["incident_pdg"].shape == (700,)
        assert file["incident_pdg"].dtype == np.int64


def test_selection_reads_dense_and_sparse_rows(demo_showers: Path) -> None:
    showers = open_showers(demo_showers)
    everything = showers.read()
    for rows in (np.arange(10, 900), np.arange(0, 8000, 3), np.array([0, 17, 4001, 7999])):
        part = showers.select(rows)
        assert np.array_equal(part.read(), everything[rows])
        assert np.array_equal(part.conditions.incident_energy, showers.conditions.incident_energy[rows])
    nested = showers.select(np.arange(100, 200)).select([1, 5])
    assert nested.rows.tolist() == [101, 105]
    with pytest.raises(InputError, match=r"must rise"):
        showers.select([5, 1])


def test_memory_of_reading_in_chunks_does_not_depend_on_their_number(demo_showers: Path) -> None:
    showers = open_showers(demo_showers)

    def peak(n: int) -> int:
        tracemalloc.start()
        for _ in showers.select(np.arange(n)).chunks(200):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(len(showers)) < 1.1 * peak(len(showers) // 2)


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path) -> None:
    def write() -> None:
        with write_showers(tmp_path / "out.hdf5", MESH, attributes={}, provenance={}) as writer:
            writer.append(Conditions(np.ones(2)), np.ones((2, MESH.n_voxels)))
            raise OSError("disk full")

    with pytest.raises(OSError, match=r"disk full"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_missing_file_and_other_formats(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file"):
        open_showers(tmp_path / "none.hdf5")
    text = tmp_path / "text.hdf5"
    text.write_text("energies")
    with pytest.raises(InputError, match=r"not an HDF5 file"):
        open_showers(text)


def test_missing_dataset_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["showers"] = np.ones((2, 368))
    with pytest.raises(InputError, match=r"'incident_energies' is missing .found: showers"):
        open_showers(path)


def test_different_lengths_are_said(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "a.hdf5", incident_energies=np.ones((4, 1)))
    with pytest.raises(InputError, match=r"incident_energies has 4 rows but showers has 5"):
        open_showers(path)


def test_voxels_that_do_not_fit_say_both_numbers_and_what_fits(tmp_path: Path) -> None:
    path = raw_file(tmp_path / "a.hdf5")
    with pytest.raises(InputError, match=r"368 voxels but geometry 'dataset_2' has 6480; dataset_1_photons would fit"):
        open_showers(path, "dataset_2")
    assert open_showers(path).geometry.name == "dataset_1_photons"
    with pytest.raises(InputError, match=r"no known geometry has 7 voxels"):
        open_showers(raw_file(tmp_path / "b.hdf5", voxels=7))


@pytest.mark.parametrize("value", [np.nan, -5.0, 0.0])
def test_bad_incident_energy_is_named_with_its_row(tmp_path: Path, value: float) -> None:
    energies = np.full((5, 1), 1000.0)
    energies[3] = value
    showers = open_showers(raw_file(tmp_path / "a.hdf5", incident_energies=energies))
    with pytest.raises(InputError, match=r"incident_energies: row 3 is"):
        _ = showers.conditions


@pytest.mark.parametrize("value", [0, 22.5, np.nan, 1e12])
def test_a_particle_that_is_no_pdg_code_is_named_with_its_row(tmp_path: Path, value: float) -> None:
    path = raw_file(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["incident_pdg"] = np.array([22, 11, 22, 22, value])
    with pytest.raises(InputError, match=r"incident_pdg: row 4 is .*; 1 of 2 are not PDG codes"):
        _ = open_showers(path).select([1, 4]).conditions
    assert open_showers(path).select([0, 1]).conditions.particle is not None
    with h5py.File(path, "a") as file:
        del file["incident_pdg"]
        file["incident_pdg"] = np.full(4, 22)
    with pytest.raises(InputError, match="incident_pdg has 4 rows but showers has 5"):
        open_showers(path)


def test_conditions_that_no_particle_has_are_not_written(tmp_path: Path) -> None:
    conditions = Conditions(np.ones(2), theta=np.array([1.0, 57.3]))
    with (
        pytest.raises(InputError, match=r"out.hdf5: incident_theta: row 1 is 57.3; 1 of 2 are not between 0 and 3.14"),
        write_showers(tmp_path / "out.hdf5", MESH, attributes={}, provenance={}) as writer,
    ):
        writer.append(conditions, np.ones((2, MESH.n_voxels)))
    assert list(tmp_path.iterdir()) == []


def test_energies_below_the_threshold_are_zero_where_that_is_asked_for(tmp_path: Path) -> None:
    just_below = np.nextafter(np.float32(0.1), np.float32(0))
    row = np.resize(np.asarray([0.0, just_below, 0.1, 0.3, -1.0, np.nan], np.float32), 368)
    showers = open_showers(raw_file(tmp_path / "low.hdf5", n=2, showers=np.stack([row, 2 * row])))
    (chunk,) = showers.chunks(threshold=0.1)
    expected = np.resize(np.asarray([0.0, 0.0, 0.1, 0.3, 0.0, np.nan], np.float32), 368)
    assert chunk.dtype == np.float32
    assert np.array_equal(chunk[0], expected, equal_nan=True)
    assert np.array_equal(showers.read(threshold=0.1), chunk, equal_nan=True)
    assert np.array_equal(showers.read()[0], row, equal_nan=True), "without it the file's own values come"
    # The bound itself stays: a threshold in double precision is rounded to the voxels' type.
    assert np.array_equal(cut(row, 0.1), expected, equal_nan=True)


def with_cpu(path: Path, seconds: object) -> Path:
    with write_showers(path, load_geometry("siw_demo"), attributes={}, provenance={}) as writer:
        writer.append(Conditions(np.full(3, 1e3)), np.ones((3, load_geometry("siw_demo").n_voxels)))
    with h5py.File(path, "a") as file:
        file["extra/cpu_seconds"] = seconds
    return path


def test_the_time_of_the_full_simulation(tmp_path: Path) -> None:
    showers = open_showers(with_cpu(tmp_path / "a.hdf5", [1.0, 2.0, 4.0]))
    assert showers.cpu_seconds is not None
    assert list(showers.select([0, 2]).cpu_seconds) == [1, 4]
    for wrong, message in (([1.0], "has 1 rows but showers 3"), ([1.0, -1.0, 2.0], "row 1 is -1; expected seconds")):
        with pytest.raises(InputError, match=f"extra/cpu_seconds: {message}"):
            _ = open_showers(with_cpu(tmp_path / f"{len(wrong)}.hdf5", wrong)).cpu_seconds
