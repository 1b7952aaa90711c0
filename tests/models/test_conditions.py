"""Angles as conditions, and a read-out of one layer only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_families import quick

from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.models.bundle import load_bundle
from caloforge.models.configuration import TrainingRequest
from caloforge.models.export import export, run_onnx
from caloforge.models.generate import generate
from caloforge.models.registries import FAMILIES
from caloforge.models.training.train import train
from caloforge.preprocessing.prepare import prepare
from caloforge.showers import Conditions, open_showers, write_showers

pytestmark = pytest.mark.slow

FLAT = CylindricalGeometry("flat", (Layer(0, (0.0, 1.0, 2.0, 4.0), 6),))


@pytest.fixture(scope="module")
def tilted_showers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """250 showers of two particles in one layer, whose direction in alpha follows the incident phi."""
    rng = np.random.default_rng(0)
    n = 250
    theta, phi = rng.uniform(0.5, 2.5, n), rng.uniform(-np.pi, np.pi, n)
    conditions = Conditions(rng.uniform(1e3, 1e4, n), theta=theta, phi=phi, particle=rng.choice(np.array([22, -11]), n))
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
    assert generator.condition_names == ("incident_energy", "theta", "phi", "particle")
    with pytest.raises(InputError, match="missing: theta, phi, particle"):
        generator.sample(Conditions(np.array([2000.0])), seed=0)
    conditions = showers.conditions.take(slice(0, 20))
    drawn = generator.sample(conditions, seed=0)
    others = {"theta": conditions.theta[::-1], "phi": conditions.phi + 1, "particle": 11 - conditions.particle}
    for name, values in others.items():
        assert not np.array_equal(generator.sample(replace(conditions, **{name: values}), seed=0), drawn), name
    assert np.array_equal(generator.sample(replace(conditions, phi=conditions.phi + 2 * np.pi), seed=0) > 0, drawn > 0)
    generate(tmp_path / "bundle", conditions, tmp_path / "out.hdf5", seed=0)
    again = open_showers(tmp_path / "out.hdf5")
    assert np.array_equal(again.read(), drawn)
    assert np.allclose(again.conditions.phi, conditions.phi)
    assert np.array_equal(again.conditions.particle, conditions.particle)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vae", "tree"])
def test_conditions_reach_the_onnx_file(family: str, tilted_showers: Path, tmp_path: Path) -> None:
    showers = open_showers(tilted_showers)
    prepare(showers, tmp_path / "prepared")
    train(
        TrainingRequest(
            showers=tilted_showers,
            prepared=tmp_path / "prepared",
            output=tmp_path / "bundle",
            family=family,
            overrides=quick(family),
        )
    )
    export(tmp_path / "bundle", tmp_path / "exported")
    contract = read_json(tmp_path / "exported" / "onnx.json")
    assert list(contract["inputs"]) == ["incident_energy", "theta", "phi", "particle", "noise"]
    assert contract["conditions"]["particle"] == {"values": [-11.0, 22.0]}
    assert contract["units"]["particle"] == "PDG code"
    conditions = showers.conditions.take(slice(0, 20))
    ours = load_bundle(tmp_path / "exported").sample(conditions, seed=3)
    assert np.allclose(run_onnx(tmp_path / "exported", conditions, seed=3, threads=1), ours, rtol=1e-4, atol=0.1)
