"""How likely showers are: the file, what is usual, and planted anomalies that are found."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from caloforge.cli import main
from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.models.bundle import LIKELIHOOD, load_bundle, read_bundle_config, seal_bundle
from caloforge.models.likelihood.calibration import Calibration
from caloforge.models.likelihood.score import score
from caloforge.showers import Conditions, Showers, open_showers, write_showers


def test_a_family_without_a_likelihood_says_so(family_bundles, small_showers, tmp_path):
    with pytest.raises(InputError, match="family 'vae' has no likelihood of showers; the family tree has"):
        score(family_bundles["vae"], open_showers(small_showers), tmp_path / "s.hdf5")
    assert not (tmp_path / "s.hdf5").exists()
    assert not (family_bundles["vae"] / LIKELIHOOD).exists()


def test_the_command_writes_parts_that_add_up(family_bundles, small_showers, tmp_path):
    out = tmp_path / "scores.hdf5"
    command = ["score", "--bundle", str(family_bundles["tree"]), "--data", str(small_showers), "-o", str(out)]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0
    showers = open_showers(small_showers)
    generator = load_bundle(family_bundles["tree"])
    some = np.arange(0, len(showers), 97)
    first = showers.select(some)
    import torch

    expected = generator.network.log_prob(
        torch.from_numpy(first.conditions.incident_energy.astype(np.float32))[:, None],
        torch.from_numpy(first.read(threshold=generator.threshold)),
    )
    with h5py.File(out) as file:
        parts = {name: values[:] for name, values in file["parts"].items()}
        assert set(parts) == {"totals", "layers", "rings", "cells"}
        np.testing.assert_allclose(file["log_prob"], sum(parts.values()))
        for name, values in expected.items():
            np.testing.assert_allclose(parts[name][some], values.numpy(), rtol=1e-4, atol=1e-2)
        assert 0 < file["p_value"][:].min() <= file["p_value"][:].max() <= 1
        assert file.attrs["unit"] == "nats"
    figures = dict(line.split("=") for line in result.stdout.split())
    assert float(figures["showers"]) == len(showers)
    assert float(figures["impossible"]) == 0


def test_a_bundle_without_calibration_gives_no_p_values(family_bundles, small_showers, tmp_path, caplog):
    old = tmp_path / "old"
    shutil.copytree(family_bundles["tree"], old)
    (old / LIKELIHOOD).unlink()
    content = read_json(old / "config.json")
    seal_bundle(old, {name: value for name, value in content.items() if name != "files"})
    read_bundle_config(old)
    with caplog.at_level(logging.WARNING):
        figures = score(old, open_showers(small_showers).select(range(20)), tmp_path / "s.hdf5")
    assert "no p-values" in caplog.text
    assert set(figures) == {"showers", "mean_log_prob", "impossible"}
    with h5py.File(tmp_path / "s.hdf5") as file:
        assert set(file) == {"log_prob", "parts"}


def test_showers_that_do_not_fit_are_refused(family_bundles, small_showers, write_toy, tmp_path):
    tree, out = family_bundles["tree"], tmp_path / "s.hdf5"
    showers = open_showers(small_showers).select(range(30))
    with pytest.raises(InputError, match=r"its mesh .* is not that of the generator"):
        score(tree, write_toy("dataset_1_photons", 5), out)
    voxels = showers.read()
    voxels[7, 3] = -1
    with pytest.raises(InputError, match="row 7 has an energy that is negative or no finite number"):
        score(tree, save(tmp_path / "bad.hdf5", showers, voxels=voxels), out)
    with pytest.raises(InputError, match="outside the trained range"):
        score(tree, save(tmp_path / "far.hdf5", showers, energy=100 * showers.conditions.incident_energy), out)
    assert not out.exists()


@pytest.fixture
def write_toy(tmp_path):
    from caloforge.geometry import load_geometry

    def write(name: str, n: int) -> Showers:
        geometry = load_geometry(name)
        with write_showers(tmp_path / f"{name}.hdf5", geometry, attributes={}, provenance={}) as file:
            file.append(Conditions(np.full(n, 2e4)), np.ones((n, geometry.n_voxels), np.float32))
        return open_showers(tmp_path / f"{name}.hdf5")

    return write


def save(path: Path, like: Showers, *, voxels: np.ndarray | None = None, energy: np.ndarray | None = None) -> Showers:
    """Write showers with other voxels or labels."""
    with write_showers(path, like.geometry, attributes={}, provenance={}) as file:
        file.append(
            Conditions(like.conditions.incident_energy if energy is None else energy),
            like.read() if voxels is None else voxels,
        )
    return open_showers(path)


def test_residuals_of_ordinary_showers_have_uniform_p_values_whatever_the_energy():
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        energy = 1e3 * 100 ** rng.random(n)
        a, b = rng.gamma(4, size=(2, n)) * np.log(energy)
        parts = {"a": -a + 3 * np.log(energy) ** 2, "b": -b - 5.0 - 0.5 * a}
        return energy, {**parts, "total": parts["a"] + parts["b"]}

    calibration = Calibration.of(Calibration.fit(*draw(4000)).as_dict())
    energy, log_prob = draw(4000)
    p = calibration.p_values(calibration.distances(calibration.residuals(energy, log_prob)))
    for low in (energy < 1e4, energy >= 1e4):
        assert np.histogram(p[low], 5, (0, 1))[0] / low.sum() == pytest.approx(0.2, abs=0.035)
    impossible = {name: np.full(1, -np.inf) for name in log_prob}
    far = calibration.distances(calibration.residuals(energy[:1], impossible))
    assert calibration.p_values(far) == pytest.approx(1 / 4001)
