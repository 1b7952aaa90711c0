from __future__ import annotations

import logging
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from caloforge.cli import main
from caloforge.errors import InputError
from caloforge.geometry import load_geometry
from caloforge.preprocessing.prepare import PrepareSettings, prepare
from caloforge.preprocessing.sample import one_file
from caloforge.showers import Conditions, open_showers, write_showers

MESH = load_geometry("siw_demo")


def sample(path: Path, n: int, *, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    energy = rng.uniform(1e3, 1e5, n)
    voxels = rng.dirichlet(np.full(MESH.n_voxels, 0.1), n) * energy[:, None]
    with write_showers(path, MESH, attributes={"energy_threshold": 0.01}, provenance={}) as writer:
        writer.append(Conditions(energy), np.where(voxels < 0.01, 0, voxels))
    return path


def par04(path: Path, n: int, *, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    energy = rng.uniform(1e3, 1e5, n)
    with h5py.File(path, "w") as file:
        file["incident_energy"] = energy
        parts = rng.gamma(0.1, size=(n, 9, 16, 45))
        file["showers"] = parts / parts.sum((1, 2, 3), keepdims=True) * 0.03 * energy[:, None, None, None]
    return path


def test_one_file_of_ours_is_itself(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.hdf5", 5, seed=0)
    found = one_file([str(path)], tmp_path / "folder")
    assert found.path == path
    assert found.source.address == str(path)
    assert not (tmp_path / "folder").exists()


def test_several_are_written_as_one_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    paths = [sample(tmp_path / f"part_{i}.hdf5", 5 + i, seed=i) for i in range(3)]
    whole = np.concatenate([open_showers(path).read() for path in paths])
    for sources in ([str(path) for path in paths], [str(tmp_path / "part_*.hdf5")]):
        found = one_file(sources, tmp_path / "folder")
        assert np.array_equal(open_showers(found.path).read(), whole)
        assert all(str(path) in found.source.address for path in paths)
    assert caplog.text.count("as one file in the CaloChallenge's layout") == 1
    sample(paths[1], 2, seed=9)
    assert len(open_showers(one_file([str(path) for path in paths], tmp_path / "folder").path)) == 5 + 2 + 7


def test_another_format_is_converted(tmp_path: Path) -> None:
    path = par04(tmp_path / "SiW.h5", 4, seed=0)
    found = one_file([str(path)], tmp_path / "folder")
    assert open_showers(found.path).geometry.name == "par04_siw_coarse"
    assert found.source.size == path.stat().st_size


def test_what_no_reader_knows_is_left_to_whoever_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["cells"] = np.ones((3, 4))
    assert one_file([str(path)], tmp_path).path == path
    with pytest.raises(InputError, match="no file is called so"):
        one_file([str(tmp_path / "b*.h5")], tmp_path)
    with pytest.raises(InputError, match="the checksum of a file is given, but 2 files"):
        one_file([str(path), str(path)], tmp_path, checksum="0" * 64)


def test_a_root_file_by_itself_is_told_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    path.write_bytes(b"root" + bytes(300))
    words = ["preprocess", "--data", str(path), "-o", str(tmp_path / "prepared")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "holds a ROOT file, which says neither its units nor where its channels are" in result.stderr


def test_showers_given_to_judge_by_are_the_test_split(tmp_path: Path) -> None:
    first, second = sample(tmp_path / "a.hdf5", 300, seed=1), sample(tmp_path / "b.hdf5", 200, seed=2)
    judged = sample(tmp_path / "c.hdf5", 60, seed=3)
    words = ["preprocess", "--data", first, "--data", second, "--test", judged, "-o", tmp_path / "prepared"]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "prepared" / "splits.npz") as file:
        splits = dict(file)
    assert splits["test"].tolist() == list(range(500, 560))
    assert len(splits["validation"]) == 100
    assert sorted([*splits["validation"], *splits["train"]]) == list(range(500))


def test_too_few_showers_to_judge_by_are_refused(tmp_path: Path) -> None:
    first, judged = sample(tmp_path / "a.hdf5", 300, seed=1), sample(tmp_path / "c.hdf5", 20, seed=3)
    showers = open_showers(one_file([str(first)], tmp_path / "folder", test=[str(judged)]).path)
    with pytest.raises(InputError, match=r"only 20 good showers are given to judge by \(none dropped\); 50 are needed"):
        prepare(showers, tmp_path / "prepared", settings=PrepareSettings())
