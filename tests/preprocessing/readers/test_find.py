from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from caloforge.cli import main
from caloforge.errors import InputError
from caloforge.geometry import CylindricalGeometry, Geometry, Layer
from caloforge.preprocessing.convert import convert, inspect
from caloforge.preprocessing.readers.find import open_sources
from caloforge.preprocessing.readers.reader import Reader
from caloforge.preprocessing.registries import READERS
from caloforge.showers import Conditions, open_showers, write_showers

MESH = CylindricalGeometry("mesh", tuple(Layer(i, (0.0, 1.0, 2.0), 3) for i in range(4)))


def sample(path: Path, n: int = 20, *, seed: int = 0, mesh: Geometry = MESH, **attributes: object) -> Path:
    rng = np.random.default_rng(seed)
    conditions = Conditions(rng.uniform(1e3, 1e5, n), theta=rng.uniform(0.5, 1.0, n))
    voxels = rng.dirichlet(np.ones(mesh.n_voxels), n) * conditions.incident_energy[:, None]
    with write_showers(path, mesh, attributes=attributes, provenance={}) as writer:
        writer.append(conditions, voxels)
    return path


def error_of(*words: str | Path) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_files_and_folders_become_one_file_in_the_order_given(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    last = sample(tmp_path / "last.hdf5", 5, seed=3, energy_threshold=0.2, particle="e-")
    parts = [sample(folder / name, n, seed=n, energy_threshold=0.2, particle="e-") for n, name in ((7, "a"), (9, "b"))]
    (folder / "README.md").write_text("not showers")
    output = tmp_path / "out.hdf5"
    result = CliRunner().invoke(main, ["convert", str(folder), str(last), "-o", str(output)])
    assert result.exit_code == 0, result.output
    assert "format=calochallenge" in result.stdout
    assert "showers=21" in result.stdout
    mine, theirs = open_showers(output), [open_showers(path) for path in (*parts, last)]
    assert np.array_equal(mine.read(), np.concatenate([one.read() for one in theirs]))
    for name in ("incident_energy", "theta"):
        expected = np.concatenate([getattr(one.conditions, name) for one in theirs])
        assert np.array_equal(getattr(mine.conditions, name), expected)
    assert mine.conditions.names == ("incident_energy", "theta")
    assert mine.geometry == MESH
    assert mine.threshold == 0.2
    assert mine.attributes["particle"] == "e-"
    inputs = json.loads(mine.attributes["provenance"])["inputs"]
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (*parts, last)]
    assert [one["sha256"] for one in inputs.values()] == sums


def test_memory_does_not_grow_with_the_number_of_showers(tmp_path: Path) -> None:
    mesh = CylindricalGeometry("wide", (Layer(0, tuple(range(51)), 40),))  # 2000 voxels: 8 MB are 1048 showers
    part = sample(tmp_path / "part.hdf5", 1100, mesh=mesh)

    def peak(times: int) -> int:
        tracemalloc.start()
        convert([part] * times, tmp_path / "out.hdf5")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)  # what is imported and kept
    assert peak(4) < 1.2 * peak(1)


def test_an_output_that_is_a_source_is_refused(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.hdf5")
    before = path.read_bytes()
    assert "is the input" in error_of("convert", path, "-o", path)
    assert "is a file of the input" in error_of("convert", tmp_path, "-o", path)
    assert path.read_bytes() == before


def test_sources_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    first = sample(tmp_path / "a.hdf5")
    other = CylindricalGeometry("other", (Layer(0, (0.0, 1.0, 3.0), 12),))
    output = tmp_path / "out.hdf5"
    text = error_of("convert", first, sample(tmp_path / "b.hdf5", mesh=other), "-o", output)
    assert "b.hdf5: its geometry is not that of" in text
    flat = sample(tmp_path / "c.hdf5")
    with h5py.File(flat, "a") as file:
        del file["incident_theta"]
    assert "its conditions are incident_energy, but those of" in error_of("convert", first, flat, "-o", output)
    assert not output.exists()


def test_thresholds_that_differ_are_not_taken_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two = (sample(tmp_path / f"{cut}.hdf5", energy_threshold=cut) for cut in (0.1, 0.2))
    convert([one, two], tmp_path / "out.hdf5")
    assert "different energy thresholds" in caplog.text
    assert open_showers(tmp_path / "out.hdf5").threshold is None


def test_what_no_reader_takes_is_described(tmp_path: Path) -> None:
    unknown = tmp_path / "events.h5"
    with h5py.File(unknown, "w") as file:
        file["cells"] = np.ones((3, 4, 5))
    for command in (["convert", "-o", tmp_path / "out.hdf5"], ["inspect"]):
        text = error_of(*command, unknown)
        assert "events.h5: holds the datasets cells (3, 4, 5); no reader takes that (readers: calochallenge" in text
    (tmp_path / "notes.txt").write_text("12 GeV electrons")
    assert "it begins with b'12 GeV elect'" in error_of("inspect", tmp_path / "notes.txt")
    (tmp_path / "empty").mkdir()
    assert "empty: holds nothing" in error_of("inspect", tmp_path / "empty")
    assert "no such file" in error_of("inspect", tmp_path / "nowhere.h5")
    assert "did you mean 'calochallenge'" in error_of("inspect", unknown, "--format", "calochalenge")
    cut_off = tmp_path / "cut.hdf5"
    cut_off.write_bytes(sample(tmp_path / "whole.hdf5").read_bytes()[:3000])
    assert "cut.hdf5: cut off" in error_of("inspect", cut_off)


def test_what_two_readers_take_is_asked_about(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.hdf5")
    READERS.register("twin", Reader("Twin", lambda _: True, READERS.get("calochallenge").open))
    try:
        assert "a.hdf5: may be calochallenge or twin (the datasets" in error_of("inspect", path)
        assert open_sources([path], form="twin")[0] == "twin"
        (tmp_path / "folder").mkdir()
        shutil.copy(path, tmp_path / "folder")
        READERS.forget("twin")
        READERS.register("twin", Reader("Twin", Path.is_dir, READERS.get("calochallenge").open))
        with pytest.raises(InputError, match=r"folder: is twin, but .*a.hdf5 is calochallenge"):
            open_sources([path, tmp_path / "folder"])
    finally:
        READERS.forget("twin")


def test_inspect_says_what_the_showers_are(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.hdf5", 200, energy_threshold=1e-3)
    with h5py.File(path, "a") as file:
        file["incident_energies"][:] = np.repeat([1000.0, 2000.0], 100)[:, None]
        file["showers"][:] = 0
        file["showers"][:, :6] = file["incident_energies"][()] / 10
        file["showers"][7, 3] = np.nan
    said = inspect([path])
    assert said["format"] == "calochallenge (CaloChallenge HDF5)"
    assert said["geometry"] == "mesh: 4 layers of 3 x 2 (alpha x r), 24 voxels"
    assert said["showers"] == "200"
    assert said["incident_energy"] == "1000 to 2000 MeV, 2 values (1000, 2000)"
    assert said["theta"].endswith(" rad")
    assert said["threshold"] == "0.001 MeV"
    assert said["occupancy"] == "25.00% of the voxels"
    assert said["response"].startswith("0.6000 ± 0.0000")
    assert said["problems"] == "NaN or infinite energy: 1 of 200 showers"
    printed = CliRunner().invoke(main, ["inspect", str(path)]).stdout
    assert [line.split(":")[0] for line in printed.splitlines()] == list(said)


def test_units_that_cannot_be_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = sample(tmp_path / "a.hdf5", 50)
    with h5py.File(path, "a") as file:
        file["showers"][:] = file["showers"][()] / 1000
    assert "are the voxels in GeV" in inspect([path])["problems"]
    convert([path], tmp_path / "out.hdf5")
    assert "are the voxels in GeV" in caplog.text


def test_names_that_are_no_text_are_passed_over(tmp_path: Path) -> None:
    for keys in (("showers",), ("incident_energies", "showers")):  # of no format, and of the usual one
        path = tmp_path / f"{len(keys)}.hdf5"
        with h5py.File(path, "w") as file:
            for key in keys:
                file[key] = np.zeros((4, 1))
            h5py.h5d.create(file.id, b"\xff\xfe", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((2,)))
            assert any(isinstance(name, bytes) for name in file)
        assert error_of("preprocess", "--data", path, "-o", tmp_path / "out").startswith(f"Error: {path}: ")


def test_folders_in_a_folder_are_named_and_how_they_are_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b"):
        (tmp_path / "run" / name).mkdir(parents=True)
        sample(tmp_path / "run" / name / "part.h5", 5)
    output = tmp_path / "out.hdf5"
    said = error_of("convert", tmp_path / "run", "-o", output)
    assert f"{tmp_path}/run: holds no shower file itself; folders in it are not looked into (a, b)" in said
    pattern = f"{tmp_path}/run/**/*.h5"
    assert f"give '{pattern}'" in said
    assert CliRunner().invoke(main, ["convert", pattern, "-o", str(output)]).exit_code == 0
    assert len(open_showers(output)) == 10
    sample(tmp_path / "run" / "own.h5", 3)
    with caplog.at_level(logging.INFO):
        open_sources([tmp_path / "run"])
    assert "folders in it are not looked into (a, b)" in caplog.text


@pytest.mark.parametrize(("name", "said"), [("", "the address is empty"), ("  ", "is empty"), ("x" * 300, "too long")])
def test_names_that_no_file_can_have_are_one_line(name: str, said: str, tmp_path: Path) -> None:
    assert said in error_of("convert", name, "-o", tmp_path / "out.hdf5")
    assert said in error_of("preprocess", f"--data={name}", "-o", tmp_path / "out")


def test_a_name_that_is_not_utf8_is_refused_before_the_work(tmp_path: Path) -> None:
    name = sample(tmp_path / os.fsdecode(b"\xff.hdf5"), 5)
    assert "\\udcff.hdf5': the name is not UTF-8" in error_of("convert", name, "-o", tmp_path / "out.hdf5")
