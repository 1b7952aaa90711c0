"""A network, an objective, a sampler, a loss and two families of a user's own module: the text of docs/extending.md."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.models.bundle import load_bundle
from caloforge.models.configuration import TrainingRequest
from caloforge.models.export import export, run_onnx
from caloforge.models.presets import resolve
from caloforge.models.registries import FAMILIES, LOSSES, NETWORKS, OBJECTIVES, SAMPLERS
from caloforge.models.training.train import train
from caloforge.showers import Conditions

DOCS = Path(__file__).parents[2] / "docs" / "extending.md"
DOORS = [
    (NETWORKS, "rings", "RingNetwork"),
    (OBJECTIVES, "uniform_times", "UniformTimes"),
    (SAMPLERS, "three_eighths", "ThreeEighths"),
    (LOSSES, "hottest_voxel", "hottest_voxel"),
    (FAMILIES, "ring_flow", "RingFlow"),
    (FAMILIES, "exponential", "Exponential"),
]
STAGE = {"steps": 4, "batch_size": 32}


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The documented module, registered as the documentation says: by name, imported when it is needed."""
    blocks = re.findall(r"```python\n# my_generators\.py\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (tmp_path / "my_generators.py").write_text("\n\n".join(blocks))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    for door, name, attribute in DOORS:
        door.register(name, f"my_generators:{attribute}")
    yield
    for door, name, _ in DOORS:
        door.forget(name)
    sys.modules.pop("my_generators", None)


@pytest.mark.usefixtures("registered")
def test_a_family_of_own_pieces_trains_samples_and_exports(
    small_showers: Path, small_prepared: Path, tmp_path: Path
) -> None:
    losses = [{"name": "hottest_voxel", "weight": 0.1}]
    overrides = {"training": STAGE, "energies": STAGE, "losses": losses, "model": {"network": {"width": 8}}}
    common = {"showers": small_showers, "prepared": small_prepared, "seed": 1}
    train(TrainingRequest(output=tmp_path / "bundle", family="ring_flow", overrides=overrides, **common))
    generator = load_bundle(tmp_path / "bundle")
    assert generator.config["settings"]["model"]["network"] == {"backbone": "rings", "width": 8, "blocks": 2}
    assert generator.config["settings"]["objective"] == {"name": "uniform_times"}
    assert generator.config["settings"]["sampler"] == {"name": "three_eighths", "steps": 4}
    conditions = Conditions(np.geomspace(2000.0, 90000.0, 20))
    showers = generator.sample(conditions, seed=1)
    assert (showers.sum(1) > 0).all()
    export(tmp_path / "bundle", tmp_path / "exported")
    assert np.allclose(run_onnx(tmp_path / "exported", conditions, seed=1), showers, rtol=1e-3, atol=1)


@pytest.mark.usefixtures("registered")
def test_a_family_of_one_stage_trains_samples_and_exports(
    small_showers: Path, small_prepared: Path, tmp_path: Path
) -> None:
    request = TrainingRequest(
        showers=small_showers, prepared=small_prepared, output=tmp_path / "bundle", family="exponential",
        overrides={"rates": {"steps": 300, "batch_size": 64, "learning_rate": 0.05}},
    )  # fmt: skip
    train(request)
    assert not (tmp_path / "bundle" / "transform.safetensors").exists()
    generator = load_bundle(tmp_path / "bundle")
    assert generator.config["energies"] == {}
    showers = generator.sample(Conditions(np.full(2000, 50000.0)), seed=1)
    assert ((showers == 0) | (showers >= generator.threshold)).all()
    # It has learnt how much of the energy is seen: between a half and all of it.
    assert 0.5 < showers.sum(1).mean() / 50000 < 1.1
    export(tmp_path / "bundle", tmp_path / "exported")
    conditions = Conditions(np.geomspace(2000.0, 90000.0, 20))
    difference = run_onnx(tmp_path / "exported", conditions, seed=2) - generator.sample(conditions, seed=2)
    assert np.abs(difference).max() < 0.5


@pytest.mark.usefixtures("registered")
def test_a_backbone_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"needs a backbone 'part of V -> part of V', but 'rings' maps V -> V.*mlp"):
        resolve("coupling_flow", "demo", {"model": {"network": {"backbone": "rings"}}})
    assert resolve("vae", "demo", {"model": {"network": {"backbone": "rings"}}}).family == "vae"
