"""A refinement from two shower files: corrector, corrected showers, weights, and one report before and after."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from caloforge.cli import main
from caloforge.files import read_json
from caloforge.showers import open_showers, write_showers

SMALL = {
    "blur": 0.0,  # voxels that are hardly trained stay as they were
    "network": {"backbone": "mlp", "width": 16, "blocks": 1},
    "layer_network": {"width": 16, "blocks": 1},
    "sampler": {"name": "heun", "steps": 2},
    "layers": {"steps": 200, "batch_size": 128, "learning_rate": 1e-2, "ema": 0.99},
    "voxels": {"steps": 30, "batch_size": 128},
}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "give either --full SHOWERS"),
        (["--full", "a.h5", "--refiner", "b"], "give either --full SHOWERS"),
        (["--refiner", "b", "--max-minutes", "1"], "has learnt already"),
        (["--full", "a.h5", "--steps", "2"], "--steps goes with --refiner"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], text: str, small_showers: Path, tmp_path: Path) -> None:
    found = invoke("refine", "--data", small_showers, *options, "-o", tmp_path / "out")
    assert found.exit_code == 2
    assert text in found.output


def test_the_full_simulation_itself_cannot_be_corrected(small_showers: Path, tmp_path: Path) -> None:
    copy = shutil.copy(small_showers, tmp_path / "copy.hdf5")
    found = invoke("refine", "--data", copy, "--full", small_showers, "-o", tmp_path / "out")
    assert found.exit_code == 2
    assert "holds the showers of the full simulation themselves" in found.output
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_refines_and_goes_on(small_showers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caloforge.validation.validate.write_plots", lambda *_, **__: [])  # seconds saved
    full = open_showers(small_showers)
    fast = tmp_path / "fast.hdf5"
    with write_showers(fast, full.geometry, attributes={"energy_threshold": full.threshold}, provenance={}) as writer:
        writer.append(full.conditions, np.asarray(0.6 * full.read(), dtype=np.float32))
    overrides = tmp_path / "overrides.yaml"
    overrides.write_text(yaml.safe_dump(SMALL))
    out = tmp_path / "out"
    command = ["refine", "--data", fast, "--full", small_showers, "--overrides", overrides, "-o", out]
    first = invoke(*command)
    assert first.exit_code == 0, first.output
    assert "| FPD |" in first.output or "FPD" in first.output
    refined = open_showers(out / "refined.hdf5")
    response = [
        float((one.read().sum(1) / one.conditions.incident_energy).mean())
        for one in (full, open_showers(fast), refined)
    ]
    # A corrector that does nothing leaves all of it: of 0.4, 0.06 were left.
    assert abs(response[2] - response[0]) < 0.3 * abs(response[1] - response[0])
    with h5py.File(out / "weights.hdf5") as file:
        assert len(file["weights"]) == len(full)
        assert (
            file.attrs["auc"] > 0.85
        )  # all energies are too low, but between 1 and 100 GeV that is seen in some features only
        effective = file["weights"][:].sum() ** 2 / np.square(file["weights"][:]).sum()
        assert effective == pytest.approx(file.attrs["effective"])
        assert effective < 0.5 * len(full)  # equal weights would count as all
    metrics = read_json(out / "refinement.json")["metrics"]
    assert metrics["mean_wasserstein"]["refined"] < 0.7 * metrics["mean_wasserstein"]["fast"]
    assert (out / "report" / "report.html").is_file()
    trained = (out / "refiner" / "weights.safetensors").stat().st_mtime_ns
    assert invoke(*command).exit_code == 0
    assert (out / "refiner" / "weights.safetensors").stat().st_mtime_ns == trained
    other = invoke(*command, "--seed", 3)
    assert other.exit_code == 2
    assert "holds a refiner of other showers or settings" in other.output
    again = invoke("refine", "--data", fast, "--refiner", out / "refiner", "-o", tmp_path / "again.hdf5")
    assert again.exit_code == 0
    np.testing.assert_array_equal(open_showers(tmp_path / "again.hdf5").read(), refined.read())
