"""Families learn: two hundred steps on showers of a known distribution bring them much nearer to it.

A family that is registered is tested on arrival. What the presets choose is sized for real showers: SETTINGS has
sizes and rates for eight voxels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from known_showers import MESH, SECTORS, THRESHOLD, distances, incident_energies, known_showers, write_known_showers
from lightning_fabric import Fabric
from numpy.typing import NDArray

from caloforge.models.energies import load_energies
from caloforge.models.family import Family
from caloforge.models.presets import resolve
from caloforge.models.registries import FAMILIES
from caloforge.models.training.data import TrainingData
from caloforge.models.training.energies import train_energies
from caloforge.models.training.train import data_spec, fit_stages
from caloforge.preprocessing.prepare import prepare
from caloforge.preprocessing.prepared import Prepared, open_split
from caloforge.showers import Showers, open_showers

pytestmark = pytest.mark.slow

STEPS = {"steps": 200, "batch_size": 128, "ema": 0.95}
SMALL = {"backbone": "mlp", "width": 64, "blocks": 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "coupling_flow": {
        "model": {"couplings": 4, "bins": 6, "network": {"width": 32}},
        "training": {**STEPS, "learning_rate": 1e-2},
    },
    "autoregressive_flow": {
        "model": {"transforms": 2, "bins": 6, "network": {"width": 64}},
        "training": {**STEPS, "learning_rate": 1e-2}, "distillation": {**STEPS, "learning_rate": 1e-2},
    },
    "flow_matching": {
        "model": {"network": SMALL}, "sampler": {"steps": 8}, "training": {**STEPS, "learning_rate": 1e-2},
    },
    "diffusion": {
        "model": {"network": SMALL}, "sampler": {"steps": 10}, "training": {**STEPS, "learning_rate": 1e-2},
    },
    "wgan": {
        "model": {"latent": 8, "network": {"width": 64, "blocks": 1}},
        "objective": {"penalty": 1.0},
        "training": {**STEPS, "ema": 0.9, "learning_rate": 1.5e-3},
    },
    "gan": {
        "model": {"latent": 8, "network": {"width": 64, "blocks": 1}},
        "training": {**STEPS, "steps": 300, "ema": 0.9, "learning_rate": 1.5e-3},
    },
    "sagan": {
        "model": {"latent": 8, "network": {"width": 32, "blocks": 1, "heads": 2}},
        "training": {**STEPS, "steps": 300, "ema": 0.9, "learning_rate": 5e-3},
    },
    "vae_gan": {
        "model": {"latent": 4, "network": {**SMALL, "blocks": 1}},
        "training": {**STEPS, "steps": 300, "learning_rate": 1e-2},
    },
    "bib_ae": {
        "model": {"latent": 4, "network": {**SMALL, "blocks": 1}},
        "training": {**STEPS, "steps": 300, "learning_rate": 1e-2},
        "post_network": SMALL, "post_processing": {**STEPS, "steps": 50, "learning_rate": 1e-3},
    },
    "vae": {
        "model": {"latent": 4, "network": {**SMALL, "blocks": 1}},
        # Its latent numbers are ignored at first: how long depends on the seed.
        "training": {**STEPS, "steps": 300, "learning_rate": 1e-2},
    },
    "tree": {
        "model": {"layer_width": 32, "ring_width": 32, "cell_width": 32, "early_layers": 0},
        **{key: {**STEPS, "learning_rate": 0.005} for key in ("totals", "layers", "rings", "cells", "early")},
    },
}  # fmt: skip
N = 4000


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    """Networks of this size gain nothing from more, and sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_showers(tmp_path_factory.mktemp("known") / "showers.hdf5", 3400, seed=0)


@pytest.fixture(scope="module")
def prepared(file: Path) -> Prepared:
    found = prepare(open_showers(file), file.parent / "prepared")
    assert found.phi_symmetric
    return found


@pytest.fixture(scope="module")
def energies(file: Path, prepared: Prepared) -> dict[str, torch.Tensor]:
    """Layer energies, trained once for all families that draw them first."""
    folder = file.parent / "energies"
    train_energies(file, prepared.path, folder, overrides={**STEPS, "ema": 0.9, "learning_rate": 1e-2})
    return dict(load_energies(folder).state)


@pytest.fixture(scope="module")
def known() -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Energies and showers that no training has seen."""
    rng = np.random.default_rng(1)
    energy = incident_energies(N, rng)
    return energy, known_showers(energy, rng)


def untrained(name: str, prepared: Prepared) -> Family:
    kind = FAMILIES.get(name)
    torch.manual_seed(0)
    return kind(resolve(name, "demo", SETTINGS.get(name, {})), data_spec(prepared, transforms=kind.uses_transforms))


def learn(
    family: Family, showers: Showers, prepared: Prepared, energies: dict[str, torch.Tensor], scratch: Path
) -> None:
    """Train a family in place as :func:`caloforge.models.training.train.train` does."""
    fabric = Fabric(accelerator="cpu", devices=1)
    data = TrainingData(showers, prepared, scratch, seed=0, fabric=fabric)
    family.begin(data)
    stages = family.stages()
    if family.uses_layer_energies:
        family.get_submodule("energies").load_state_dict(energies)
        del stages["energies"]
    fit_stages(family, stages, data, scratch, fabric, name="test", seed=0, limit=None)


def draw(family: Family, energy: NDArray[np.float64]) -> NDArray[np.float32]:
    conditions = torch.from_numpy(energy.astype(np.float32))[:, None]
    noise = torch.randn(len(energy), family.noise_features, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        drawn: NDArray[np.float32] = family(conditions, noise).numpy()
    return drawn


def layers_of(showers: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([showers[:, place].sum(1) for place in MESH.layer_slices], 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_training_halves_the_distance_to_a_known_distribution(
    name: str, file: Path, prepared: Prepared, energies: Any, known: Any, tmp_path: Path
) -> None:
    energy, true = known
    family = untrained(name, prepared)
    before = distances(draw(family, energy), true)
    learn(family, open_split(file, prepared.path, "train"), prepared, energies, tmp_path)
    drawn = draw(family, energy)
    after = distances(drawn, true)
    text = f"before {before}, after {after}"
    assert after[0] < before[0] / 2, f"Wasserstein-1 of the marginals: {text}"
    assert after[1] < before[1] / 2, f"correlations: {text}"
    assert ((drawn == 0) | (drawn >= THRESHOLD * (1 - 1e-5))).all()


def test_training_halves_the_distance_of_layer_energies(prepared: Prepared, energies: Any, known: Any) -> None:
    energy, true = known
    family = untrained("vae", prepared)
    before = distances(layers_of(draw(family, energy)), layers_of(true))
    family.get_submodule("energies").load_state_dict(energies)
    after = distances(layers_of(draw(family, energy)), layers_of(true))
    assert after[0] < before[0] / 2, f"before {before}, after {after}"
    assert after[1] < before[1] / 2, f"before {before}, after {after}"


@pytest.mark.parametrize("name", ["vae"])
def test_showers_that_point_one_way_teach_all_directions_of_a_symmetric_sample(
    name: str, prepared: Prepared, energies: Any, known: Any, tmp_path: Path
) -> None:
    """No family turns its showers by construction: they are as symmetric as what it was shown."""
    energy, true = known
    showers = open_showers(write_known_showers(tmp_path / "one_way.hdf5", 2000, seed=3, sector=0))
    assert not prepare(showers, tmp_path / "prepared").phi_symmetric
    family = untrained(name, prepared)
    before = distances(draw(family, energy), true)
    learn(family, showers, prepared, energies, tmp_path)
    drawn = draw(family, energy)
    hottest = np.bincount(drawn[:, :SECTORS].argmax(1), minlength=SECTORS) / N
    assert hottest == pytest.approx(1 / SECTORS, abs=0.08)
    for turns in range(SECTORS):
        assert distances(drawn[:, MESH.rotation(turns, mirror=True)], true)[0] < before[0] / 2
