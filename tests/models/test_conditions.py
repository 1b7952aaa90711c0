"""Angles as conditions, and a read-out of one layer only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_families import quick

from caloforge.errors import InputError
from caloforge.geometry import Geometry, Layer
from caloforge.models.bundle import load_bundle
from caloforge.models.configuration import TrainingRequest
from caloforge.models.export import export, run_onnx
from caloforge.models.generate import generate
from caloforge.models.registries import FAMILIES
from caloforge.models.training.train import train
from caloforge.preprocessing.prepare import prepare
from caloforge.showers import Conditions, open_showers, write_showers

FLAT = Geometry("flat", (Layer(0, (0.0, 1.0, 2.0, 4.0), 6),))
STAGE = {"steps": 4, "batch_size": 32}


@pytest.fixture(scope="module")
def tilted_showers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """250 showers of one layer, whose direction in alpha follows the incident phi."""
    rng = np.random.default_rng(0)
    n = 250
    conditions = Conditions(rng.uniform(1e3, 1e4, n), theta=rng.uniform(0.5, 2.5, n), phi=rng.uniform(-np.pi, np.pi, n))
    towards = np.cos(FLAT.alpha_of_voxel[None] - conditions.phi[:, None]) + 1.2
    voxels = towards * rng.gamma(2, 1, (n, FLAT.n_voxels))
    voxels *= 0.5 * conditions.incident_energy[:, None] / voxels.sum(1, keepdims=True)
    path = tmp_path_factory.mktemp("tilted") / "tilted.hdf5"
    with write_showers(path, FLAT, attributes={"energy_threshold": 1.0}, provenance={}) as writer:
        writer.append(conditions, voxels)
    return path


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_angles_condition_a_flat_detector(family: str, tilted_showers: Path, tmp_path: Path) -> None:
    showers = open_showers(tilted_showers)
    prepared = prepare(showers, tmp_path / "prepared")
    # Turning a shower would need turning its phi: such samples are not augmented.
    assert not prepared.phi_symmetric
    train(
        TrainingRequest(
            showers=tilted_showers,
            prepared=tmp_path / "prepared",
            output=tmp_path / "bundle",
            family=family,
            overrides=quick(family),
        )
    )
    generator = load_bundle(tmp_path / "bundle")
    assert generator.condition_names == ("incident_energy", "theta", "phi")
    with pytest.raises(InputError, match="missing: theta, phi"):
        generator.sample(Conditions(np.array([2000.0])), seed=0)
    conditions = showers.conditions.take(slice(0, 20))
    drawn = generator.sample(conditions, seed=0)
    turned = Conditions(conditions.incident_energy, theta=conditions.theta, phi=conditions.phi + 1)
    assert not np.array_equal(generator.sample(turned, seed=0), drawn)
    generate(tmp_path / "bundle", conditions, tmp_path / "out.hdf5", seed=0)
    again = open_showers(tmp_path / "out.hdf5")
    assert np.array_equal(again.read(), drawn)
    assert np.allclose(again.conditions.phi, conditions.phi)


@pytest.mark.slow
def test_angles_reach_the_onnx_file(tilted_showers: Path, tmp_path: Path) -> None:
    showers = open_showers(tilted_showers)
    prepare(showers, tmp_path / "prepared")
    overrides = {"training": STAGE, "energies": STAGE, "model": {"network": {"width": 16, "blocks": 1}}}
    train(
        TrainingRequest(
            showers=tilted_showers,
            prepared=tmp_path / "prepared",
            output=tmp_path / "bundle",
            family="vae",
            overrides=overrides,
        )
    )
    export(tmp_path / "bundle", tmp_path / "exported")
    conditions = showers.conditions.take(slice(0, 20))
    ours = load_bundle(tmp_path / "exported").sample(conditions, seed=3)
    assert np.allclose(run_onnx(tmp_path / "exported", conditions, seed=3, threads=1), ours, rtol=1e-4, atol=0.1)
