"""A corrector takes the showers of a fast simulation to those of the full one, and keeps what a shower must keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from caloforge.draws import Draws
from caloforge.errors import InputError
from caloforge.files import read_json, write_json
from caloforge.models.batch import Batch
from caloforge.models.refine import RowDraws, refine
from caloforge.models.refiner import Bridge, Refiner, RefinerConfig
from caloforge.models.refiner_bundle import load_refiner
from caloforge.models.training import refiner as module
from caloforge.models.training.data import TrainingData
from caloforge.models.training.refiner import CONDITION_COST, Pairs, refiner_config, train_refiner
from caloforge.models.training.train import data_spec
from caloforge.preprocessing.prepared import load_prepared, open_split
from caloforge.provenance import provenance
from caloforge.showers import Showers, open_showers, write_showers

SMALL: dict[str, Any] = {
    "network": {"backbone": "mlp", "width": 16, "blocks": 1},
    "layer_network": {"width": 16, "blocks": 1},
    "sampler": {"name": "heun", "steps": 2},
    "layers": {"steps": 3},
    "voxels": {"steps": 3},
}


@pytest.fixture(scope="session")
def fast_showers(small_showers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Showers with too little energy, in other order than the full ones."""
    full = open_showers(small_showers)
    path = tmp_path_factory.mktemp("fast") / "fast.hdf5"
    attributes = {"energy_threshold": full.threshold, "source": "a fast simulation"}
    with write_showers(path, full.geometry, attributes=attributes, provenance=provenance(inputs={})) as writer:
        order = np.arange(len(full))[::-1]
        writer.append(full.conditions.take(order), np.asarray(0.8 * full.read()[order], dtype=np.float32))
    return path


@pytest.fixture(scope="session")
def small_refiner(
    small_showers: Path, small_prepared: Path, fast_showers: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A corrector trained for three steps of each of its bridges."""
    folder = tmp_path_factory.mktemp("refiner") / "refiner"
    train_refiner(small_showers, small_prepared, open_showers(fast_showers), folder, overrides=SMALL, seed=1)
    return folder


def whole(small_showers: Path, small_prepared: Path) -> tuple[Refiner, Batch]:
    """An untrained corrector, and the training showers."""
    prepared = load_prepared(small_prepared)
    torch.manual_seed(0)
    refiner = Refiner(RefinerConfig.parse(SMALL, where="test"), data_spec(prepared, transforms=True))
    showers = open_split(small_showers, small_prepared, "train")
    voxels = torch.from_numpy(showers.read(threshold=prepared.threshold))
    context = refiner.sums.context_of(voxels, prepared.threshold)
    conditions = torch.from_numpy(showers.conditions.incident_energy.astype(np.float32))[:, None]
    batch = Batch(
        prepared.geometry, prepared.threshold, raw_conditions=conditions, layer_energy=context.layer_energy,
        layer_hits=context.layer_hits, voxels=lambda: voxels,
    )  # fmt: skip
    refiner.begin(batch.layer_energy > 0)
    return refiner, batch


def draws(seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed))


def test_codes_lead_back_to_layers_and_voxels(small_showers: Path, small_prepared: Path) -> None:
    refiner, batch = whole(small_showers, small_prepared)
    energy, hits = refiner.decode_layers(refiner.encode_layers(batch, draws()), batch.raw_conditions)
    assert torch.equal(hits, batch.layer_hits)
    assert torch.allclose(energy, batch.layer_energy, rtol=1e-3, atol=1e-3)
    found = refiner.to_mev(refiner.encode_voxels(batch, draws()), batch.layer_energy, batch.layer_hits)
    assert torch.equal(found > 0, batch.voxels > 0)
    assert torch.allclose(found, batch.voxels, rtol=0.02, atol=0.02)


def test_a_bridge_without_velocity_corrects_nothing(
    small_showers: Path, small_prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refiner, batch = whole(small_showers, small_prepared)
    refiner.config = refiner.config.model_copy(update={"blur": 0.0})
    monkeypatch.setattr(Bridge, "velocity", lambda self, x, t, condition: torch.zeros_like(x))
    noise = torch.randn(len(batch), refiner.noise_features, generator=torch.Generator().manual_seed(3))
    found = refiner.refine(batch.raw_conditions, batch.voxels, RowDraws(noise))
    assert torch.equal(found > 0, batch.voxels > 0)
    assert torch.allclose(found, batch.voxels, rtol=0.02, atol=0.02)


def test_the_velocity_of_a_shift_is_learnt() -> None:
    """All pairs differ by (2, 0): the flow of the best velocity moves everything by as much."""
    torch.manual_seed(0)

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(2 + 1 + 32, 32), torch.nn.SiLU(), torch.nn.Linear(32, 2))

        def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.layers(torch.cat([x, condition], 1))
            return found

    bridge = Bridge(Field())  # type: ignore[arg-type]
    optimiser = torch.optim.Adam(bridge.parameters(), 1e-2)
    told, shift = torch.zeros(256, 1), torch.tensor([2.0, 0.0])
    for number in range(300):
        random = draws(number)
        source = 0.3 * random.normal(256, 2)
        optimiser.zero_grad()
        bridge("model", (source, source + shift, told), random).backward()
        optimiser.step()
    x, n = 0.3 * draws(999).normal(256, 2), 20
    moved = x.clone()
    with torch.no_grad():
        for i in range(n):
            moved = moved + bridge.velocity(moved, torch.full((256, 1), (i + 0.5) / n), told) / n
    assert torch.allclose((moved - x).mean(0), shift, atol=0.1)


def test_pairs_have_like_conditions_and_every_shower_counts_once(
    small_showers: Path, small_prepared: Path, fast_showers: Path, tmp_path: Path
) -> None:
    refiner, _ = whole(small_showers, small_prepared)
    prepared, fabric = load_prepared(small_prepared), Fabric(accelerator="cpu", devices=1)
    data = TrainingData(open_split(small_showers, small_prepared, "train"), prepared, tmp_path, seed=0, fabric=fabric)
    fast = TrainingData(open_showers(fast_showers), prepared, tmp_path / "fast", seed=0, fabric=fabric)
    pairs = Pairs(refiner, fast)
    seen: list[torch.Tensor] = []
    original = module._assigned

    def assigned(codes: Any, ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        order = original(codes, ours, theirs)
        assert sorted(order.tolist()) == list(range(len(order)))
        seen.append((ours[order] - theirs).abs())
        cost = CONDITION_COST * (ours[order] - theirs).square().sum()
        as_drawn = CONDITION_COST * (ours - theirs).square().sum()
        for one, other in codes:
            cost += (one[order] - other).square().sum() / one.shape[1]
            as_drawn += (one - other).square().sum() / one.shape[1]
        assert cost < as_drawn  # pairs are more alike than neighbours at random
        return order

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_assigned", assigned)
        source, target, told = pairs.of_layers(data, 0, 64, draws())
        assert source.shape == target.shape == (64, 3 * prepared.geometry.n_layers)
        assert told.shape == (64, refiner.encoder.n_features)
        x, y, _ = pairs.of_voxels(data, 0, 64, draws())
        assert x.shape == y.shape == (64, prepared.geometry.n_voxels)
    assert max(one.max() for one in seen) < 0.3  # of 2, the whole range; 180 showers
    again = pairs.of_layers(data, 0, 64, draws())
    assert torch.equal(again[0], source)


def test_correcting_is_deterministic_and_keeps_what_a_shower_keeps(
    small_refiner: Path, fast_showers: Path, tmp_path: Path
) -> None:
    fast = open_showers(fast_showers)
    assert refine(small_refiner, fast, tmp_path / "all.hdf5", seed=4) == {"showers": 300.0}
    refine(small_refiner, fast.select(range(10)), tmp_path / "ten.hdf5", seed=4)
    refine(small_refiner, fast.select(range(10)), tmp_path / "other.hdf5", seed=5)
    whole_file, ten, other = (open_showers(tmp_path / f"{name}.hdf5") for name in ("all", "ten", "other"))
    voxels = whole_file.read()
    np.testing.assert_allclose(voxels[:10], ten.read(), rtol=1e-4, atol=1e-4)  # whatever else is in the batch
    assert not np.array_equal(ten.read(), other.read())
    threshold = load_refiner(small_refiner).record.threshold
    assert whole_file.attributes["energy_threshold"] == threshold
    assert whole_file.attributes["source"] == "caloforge refiner of a fast simulation"
    assert voxels[voxels > 0].min() >= threshold * (1 - 1e-5)
    assert (voxels == 0).any()
    np.testing.assert_array_equal(whole_file.conditions.incident_energy, fast.conditions.incident_energy)


def test_a_damaged_refiner_is_refused(small_refiner: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in small_refiner.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        return folder

    with pytest.raises(InputError, match=r"config.json is missing"):
        load_refiner(tmp_path)
    folder = copy("weights")
    (folder / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"weights.safetensors: missing, or not what was saved"):
        load_refiner(folder)
    for name, change, text in (
        ("kind", {"kind": "generator"}, "not a refiner of format 1"),
        ("settings", {"settings": {"layers": {"step": 1}}}, "did you mean 'settings.layers.steps'"),
        ("files", {"files": {"../x": "0"}}, "is missing"),
    ):
        folder = copy(name)
        write_json(folder / "config.json", {**read_json(folder / "config.json"), **change})
        with pytest.raises(InputError, match=text):
            load_refiner(folder)
    folder = copy("names")
    content = read_json(folder / "config.json")
    write_json(folder / "config.json", {**content, "files": {**content["files"], "../x": "0"}})
    with pytest.raises(InputError, match=r"'\.\./x' is no file of a refiner"):
        load_refiner(folder)


def test_wrong_settings_and_showers_are_refused(
    small_refiner: Path, fast_showers: Path, tmp_path: Path, tiny_geometry_showers: Showers
) -> None:
    with pytest.raises(InputError, match="sampler 'ddim' takes no velocity"):
        refiner_config({"sampler": {"name": "ddim"}})
    with pytest.raises(InputError, match="did you mean 'voxels'"):
        refiner_config({"voxel": {}})
    with pytest.raises(InputError, match="its mesh is not that of the refiner"):
        refine(small_refiner, tiny_geometry_showers, tmp_path / "x.hdf5")
    with pytest.raises(InputError, match="is the input"):
        refine(small_refiner, open_showers(fast_showers), fast_showers)


@pytest.fixture
def tiny_geometry_showers(small_showers: Path, tmp_path: Path) -> Showers:
    """Two showers on another mesh."""
    geometry = open_showers(small_showers).geometry
    from caloforge.geometry import CylindricalGeometry

    assert isinstance(geometry, CylindricalGeometry)
    other = CylindricalGeometry("fewer", geometry.layers[:2])
    path = tmp_path / "other.hdf5"
    with write_showers(path, other, attributes={"energy_threshold": 0.1}, provenance={}) as writer:
        writer.append(
            open_showers(small_showers).conditions.take(slice(0, 2)), np.ones((2, other.n_voxels), np.float32)
        )
    return open_showers(path)
