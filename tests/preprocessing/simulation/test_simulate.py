from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from caloforge.cli import main
from caloforge.preprocessing.simulation.geant4 import DATA_SETS
from caloforge.preprocessing.simulation.parts import parts_of
from caloforge.preprocessing.simulation.settings import SimulateSettings
from caloforge.showers import open_showers

pytestmark = pytest.mark.usefixtures("geant4")

BEAM = ("--particle", "e-", "--particle", "gamma", "--energy", "50:500", "--seed", 5)


def words(*more: object) -> list[str]:
    return [str(word) for word in ("simulate", *BEAM, *more)]


def succeeded(*more: object) -> str:
    result = CliRunner().invoke(main, words(*more))
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*more: object) -> str:
    result = CliRunner().invoke(main, words(*more))
    assert result.exit_code == 2, result.output
    return result.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simulated") / "forty.hdf5"
    printed = succeeded("--detector", "siw", "--theta", "1:2", "--n", 40, "-o", path)
    assert "showers=40" in printed
    assert "cpu_seconds_per_gev=" in printed
    return path


def columns(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: file[name][()] for name in file if name != "extra"}


def assert_same(one: Path, other: Path) -> None:
    mine, theirs = columns(one), columns(other)
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_a_simulated_file_says_all_of_itself(forty: Path) -> None:
    showers = open_showers(forty)
    assert len(showers) == 40
    assert showers.geometry.name == "dataset_2"
    assert showers.threshold == pytest.approx(0.015151515)
    conditions = showers.conditions
    assert conditions.names == ("incident_energy", "theta", "phi", "particle")
    assert set(conditions.particle) == {11, 22}
    assert ((conditions.theta > 1) & (conditions.theta < 2)).all()
    said = showers.attributes
    assert said["source"].startswith("Geant4 11.")
    assert "em, cut 0.7 mm" in said["source"]
    assert said["detector"] == "siw"
    assert json.loads(said["simulation"])["detector"]["barrel"]["inner_radius_mm"] == 800
    assert json.loads(said["provenance"])["geant4_pybind"]
    with h5py.File(forty) as file:
        extra = {name: file["extra"][name][()] for name in file["extra"]}
    voxels = showers.read()
    assert (extra["cpu_seconds"] > 0).all()
    assert np.allclose(extra["edep_active_in_mesh"], voxels.sum(1) * 0.033, rtol=0.02, atol=0.01), (
        "but for the threshold"
    )
    assert (extra["edep_active_total"] >= extra["edep_active_in_mesh"]).all()
    assert not list(forty.parent.glob("*.parts"))


def test_showers_do_not_depend_on_the_number_of_processes(forty: Path, tmp_path: Path) -> None:
    succeeded("--detector", "siw", "--theta", "1:2", "--n", 40, "--processes", 3, "-o", tmp_path / "three.hdf5")
    assert_same(forty, tmp_path / "three.hdf5")


@pytest.mark.slow
def test_a_killed_simulation_goes_on(geant4: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, thin: Path) -> None:
    output, whole = tmp_path / "killed.hdf5", tmp_path / "whole.hdf5"
    folder = tmp_path / "killed.hdf5.parts"
    arguments = ("--detector", thin, "--n", 400)
    command = [sys.executable, "-P", "-m", "caloforge", *words(*arguments, "--processes", 2, "-o", output)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (folder.is_dir() and parts_of(folder)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        workers = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.wait()
    for worker in workers[:1]:  # the other one is left to notice that its run is gone
        worker.kill()
    finished = sum(part.count for part in parts_of(folder))
    assert 0 < finished < 400
    with caplog.at_level(logging.INFO):
        succeeded(*arguments, "-o", output)
    (going_on,) = [record.message for record in caplog.records if "going on:" in record.message]
    assert finished <= int(going_on.split("going on: ")[1].split()[0]) < 400, "what was finished is not simulated again"
    assert not folder.exists()
    succeeded(*arguments, "--processes", 2, "-o", whole)
    assert_same(output, whole)


@pytest.mark.slow
def test_what_is_told_to_end_keeps_what_it_has(geant4: str, tmp_path: Path) -> None:
    output = tmp_path / "stopped.hdf5"
    folder = tmp_path / "stopped.hdf5.parts"
    command = [sys.executable, "-P", "-m", "caloforge", *words("--detector", "siw", "--n", 3000, "-o", output)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        log = folder / "geant4-0.log"
        deadline = time.monotonic() + 120
        while not (log.exists() and "Geant4 version" in log.read_text(encoding="utf-8")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(3)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + signal.SIGTERM
    kept = sum(part.count for part in parts_of(folder))
    assert 0 < kept < 3000
    assert "holds an unfinished simulation of something else (detector.barrel" in refused(
        "--detector", "scipb", "--n", 3000, "-o", output
    )
    assert sum(part.count for part in parts_of(folder)) == kept
    succeeded("--detector", "siw", "--n", min(kept, 20), "-o", output)
    assert len(open_showers(output)) == min(kept, 20)


def test_a_pipeline_on_this_machine_simulates_once(thin: Path, tmp_path: Path) -> None:
    settings = SimulateSettings.parse({"detector": str(thin), "beam": {"energy": 100}, "n": 5}, where="simulate")
    path = settings.run_once(tmp_path / "data", seed=1)
    stamp = path.stat().st_mtime_ns
    assert settings.run_once(tmp_path / "data", seed=1).stat().st_mtime_ns == stamp
    assert settings.run_once(tmp_path / "data", seed=2).stat().st_mtime_ns != stamp
    assert (open_showers(path).conditions.incident_energy == 100).all()


def test_a_block_of_fibres_read_out_as_cells(tmp_path: Path) -> None:
    block = tmp_path / "block.yaml"
    block.write_text(
        "fibres: {length_mm: 300, half_width_mm: 97.5, pitch_mm: 2.5, fill: G4_Fe, rods: "
        "[{material: G4_POLYSTYRENE, radius_mm: 0.5, sensitive: true}]}\n"
        "cells: {geometry: focal_h_prototype_2}\n"
    )
    output = tmp_path / "block.hdf5"
    succeeded("--detector", block, "--theta", "0.02:0.06", "--n", 20, "-o", output)
    showers = open_showers(output)
    voxels, cells = showers.read(), showers.geometry
    assert cells.name == "focal_h_prototype_2"
    mean = voxels.sum(0) / voxels.sum()
    assert 0.01 < voxels.sum() / showers.conditions.incident_energy.sum() < 0.1
    assert abs(mean @ cells.eta_of_voxel) < 5
    assert mean[cells.r_of_voxel < 20].sum() > 0.7, "electrons of less than 1 GeV are no wider"


def test_materials_and_lists_that_geant4_does_not_know(thin: Path, tmp_path: Path) -> None:
    output = tmp_path / "no.hdf5"
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(thin.read_text(encoding="utf-8").replace("G4_W", "G4_Wolfram"))
    assert "Geant4 knows no material G4_Wolfram" in refused("--detector", wrong, "--n", 1, "-o", output)
    assert not list(tmp_path.glob("no.hdf5*")), "a simulation without showers leaves nothing"


def wrong_table(folder: Path) -> Path:
    """Return a detector whose cells are a file beside it."""
    (folder / "cells.csv").write_text("channel,layer,x,y,size\na,0,0,0,10\n")
    detector = folder / "block.yaml"
    detector.write_text(
        "fibres: {length_mm: 300, half_width_mm: 97.5, pitch_mm: 2.5, fill: G4_Fe, rods: "
        "[{material: G4_POLYSTYRENE, radius_mm: 0.5, sensitive: true}]}\n"
        f"cells: {{geometry: {folder / 'cells.csv'}}}\n"
    )
    return detector


def test_wrong_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "no.hdf5"
    assert "did you mean 'siw'" in refused("--detector", "siww", "--n", 1, "-o", output)
    assert "unknown particle 'e*'" in refused("--detector", "siw", "--particle", "e*", "--n", 1, "-o", output)
    assert "it holds a shower" in refused("--detector", "siw", "--theta", "0.1:1", "--n", 1, "-o", output)
    assert "is no file, beside which" in refused("--detector", "siw", "--n", 1, "-o", "-")
    assert "is no file, beside which" in refused("--detector", "siw", "--n", 1, "-o", os.devnull)
    assert "is neither a number nor" in refused("--detector", "siw", "--theta", "a:b", "--n", 1, "-o", output)
    assert "is the input" in refused("--detector", wrong_table(tmp_path), "--n", 1, "-o", tmp_path / "cells.csv")
    monkeypatch.setenv("G4LEDATA", str(tmp_path))
    assert "Geant4 cannot read its data: Bremsstrahlung data file" in refused(
        "--detector", "siw", "--n", 1, "-o", output
    )
    for variable in DATA_SETS:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "data set G4EMLOW is missing" in refused("--detector", "siw", "--n", 1, "-o", output)
    assert not list(tmp_path.glob("no.hdf5*"))


@pytest.mark.slow
def test_a_full_disk(thin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    output = tmp_path / "full.hdf5"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        result = CliRunner().invoke(main, words("--detector", thin, "--n", 500, "-o", output))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert result.exit_code == 1
    assert "no space left on" in result.stderr
    assert not output.exists()
