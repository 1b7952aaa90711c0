"""Batches of a training: every row once in an epoch, and showers that are turned and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from small_families import small_network

from caloforge.draws import Draws
from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.models.batch import Batch
from caloforge.models.presets import resolve
from caloforge.models.registries import FAMILIES
from caloforge.models.training.data import TrainingData
from caloforge.models.training.train import data_spec
from caloforge.preprocessing.prepare import PrepareSettings, prepare
from caloforge.preprocessing.prepared import Prepared, open_split
from caloforge.showers import Conditions, open_showers, write_showers

SECTORS = 4
MESH = CylindricalGeometry(
    "mesh", (Layer(0, (0.0, 1.0), 1), Layer(1, (0.0, 1.0, 2.0), SECTORS), Layer(2, (0.0, 2.0), SECTORS))
)
SIZE = 20


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prepared]:
    """100 showers without any symmetry in training, told apart by their energies; and the file."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    n = 250
    conditions = Conditions(1000.0 + np.arange(n))
    with write_showers(folder / "showers.hdf5", MESH, attributes={"energy_threshold": 1.0}, provenance={}) as writer:
        writer.append(conditions, rng.uniform(2, 20, (n, MESH.n_voxels)).astype(np.float32))
    return folder / "showers.hdf5", prepare(
        open_showers(folder / "showers.hdf5"), folder / "prepared", settings=PrepareSettings(validation_fraction=0.4)
    )


def data_of(prepared: tuple[Path, Prepared], folder: Path, *, symmetric: bool, seed: int = 0) -> TrainingData:
    file, found = prepared
    found = replace(found, record=found.record | {"phi_symmetric": symmetric})
    fabric = Fabric(accelerator="cpu", devices=1)
    data = TrainingData(open_split(file, found.path, "train"), found, folder, seed=seed, fabric=fabric)
    assert len(data) == 100
    return data


def draws(seed: int = 0, rows: slice | None = None) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), rows=rows, batch=SIZE)


def energies(batches: list[Batch]) -> list[float]:
    return torch.cat([batch.raw_conditions[:, 0] for batch in batches]).tolist()


def truth(prepared: tuple[Path, Prepared]) -> dict[float, np.ndarray]:
    showers = open_split(prepared[0], prepared[1].path, "train")
    return dict(zip(showers.conditions.incident_energy.tolist(), showers.read(), strict=True))


def test_what_a_training_holds_of_a_shower_are_its_conditions(prepared: tuple[Path, Prepared], tmp_path: Path) -> None:
    held = vars(data_of(prepared, tmp_path, symmetric=False)).items()
    large = {name: one for name, one in held if isinstance(one, np.ndarray | torch.Tensor) and len(one) == 100}
    assert [name for name, one in large.items() if not isinstance(one, np.memmap)] == ["_conditions"]
    assert len(large) == 4


def test_an_epoch_has_every_shower_once_and_the_next_in_another_order(
    prepared: tuple[Path, Prepared], tmp_path: Path
) -> None:
    data = data_of(prepared, tmp_path, symmetric=False)
    epochs = [energies([data.batch(5 * epoch + i, SIZE, draws()) for i in range(5)]) for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(truth(prepared))
    assert len({tuple(sorted(epoch[:SIZE])) for epoch in epochs}) == 3
    # Batch 7 is the same whether or not the batches before it were seen; another seed mixes differently.
    again = data_of(prepared, tmp_path / "again", symmetric=False).batch(7, SIZE, draws())
    assert energies([again]) == epochs[1][2 * SIZE : 3 * SIZE]
    other = data_of(prepared, tmp_path / "other", symmetric=False, seed=1).batch(7, SIZE, draws())
    assert energies([other]) != energies([again])


def test_what_belongs_to_a_shower_stays_with_it(prepared: tuple[Path, Prepared], tmp_path: Path) -> None:
    batch = data_of(prepared, tmp_path, symmetric=False).batch(3, SIZE, draws(), turned=True)
    known = truth(prepared)
    wanted = np.stack([known[energy] for energy in energies([batch])])
    assert np.array_equal(batch.voxels.numpy(), wanted)
    sums = np.stack([wanted[:, place].sum(1) for place in MESH.layer_slices], 1)
    assert np.allclose(batch.layer_energy.numpy(), sums, rtol=1e-5)


def test_processes_share_a_batch(prepared: tuple[Path, Prepared], tmp_path: Path) -> None:
    data = data_of(prepared, tmp_path, symmetric=True)
    whole = data.batch(2, SIZE, draws(), turned=True)
    shares = [data.batch(2, SIZE, draws(rows=rows), turned=True) for rows in (slice(0, 7), slice(7, 20))]
    assert torch.equal(torch.cat([share.voxels for share in shares]), whole.voxels)
    assert energies(shares) == energies([whole])


def images(shower: np.ndarray) -> list[bytes]:
    """Return a shower turned and mirrored in all ways, worked out on its (alpha, r) tables."""
    tables = [
        shower[place].reshape(layer.n_alpha, layer.n_r)
        for layer, place in zip(MESH.active_layers, MESH.layer_slices, strict=True)
    ]
    return [
        np.concatenate([np.roll(table[::step], turns, axis=0).ravel() for table in tables]).tobytes()
        for step in (1, -1)
        for turns in range(SECTORS)
    ]


def test_showers_are_turned_and_mirrored_in_all_ways_and_nothing_else(
    prepared: tuple[Path, Prepared], tmp_path: Path
) -> None:
    data = data_of(prepared, tmp_path, symmetric=True)
    known = {energy: images(shower) for energy, shower in truth(prepared).items()}
    counts = np.zeros(2 * SECTORS)
    for seed in range(40):
        batch = data.batch(1, SIZE, draws(seed), turned=True)
        for energy, shower in zip(energies([batch]), batch.voxels.numpy(), strict=True):
            # Raises if it is none of them; all layers have turned together.
            counts[known[energy].index(shower.tobytes())] += 1
        assert torch.equal(batch.layer_energy, data.batch(1, SIZE, draws()).layer_energy)
    # 800 showers, 100 of each image: 5 standard deviations.
    assert (np.abs(counts - 100) < 50).all()


def test_only_symmetric_samples_are_turned_and_only_where_it_is_asked(
    prepared: tuple[Path, Prepared], tmp_path: Path
) -> None:
    symmetric, other = (data_of(prepared, tmp_path / str(is_so), symmetric=is_so) for is_so in (True, False))
    plain = other.batch(1, SIZE, draws()).voxels
    assert torch.equal(other.batch(1, SIZE, draws(), turned=True).voxels, plain)
    assert torch.equal(symmetric.batch(1, SIZE, draws()).voxels, plain)
    assert not torch.equal(symmetric.batch(1, SIZE, draws(), turned=True).voxels, plain)


@pytest.mark.parametrize("name", [name for name in FAMILIES if FAMILIES.get(name).uses_layer_energies])
def test_families_learn_their_voxels_from_turned_showers(
    name: str, prepared: tuple[Path, Prepared], tmp_path: Path
) -> None:
    data = data_of(prepared, tmp_path, symmetric=True)
    family = FAMILIES.get(name)(
        resolve(name, "demo", {"model": small_network(name, 8)}), data_spec(prepared[1], transforms=True)
    )
    batch = family.stages()["voxels"].batch(data, 1, SIZE, draws())
    plain = data.batch(1, SIZE, draws())
    assert energies([batch]) == energies([plain])
    assert not torch.equal(batch.voxels, plain.voxels)
    # What the network is given is the coding of just these voxels.
    assert torch.allclose(batch.decode(batch.coded), batch.voxels, rtol=1e-3)
