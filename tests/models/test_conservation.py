"""What holds for every shower by construction, whatever the networks say: layer energies, threshold, empty layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from caloforge.geometry import Geometry, Layer
from caloforge.models.family import DataSpec
from caloforge.models.presets import resolve
from caloforge.models.registries import FAMILIES
from caloforge.models.voxel_family import VoxelFamily
from caloforge.preprocessing.transforms import VOXEL_SCALINGS, LayerEnergyTransform, LayerSums, VoxelTransform

MESH = Geometry("mesh", (Layer(0, (0.0, 1.0), 1), Layer(1, (0.0, 1.0, 2.0, 3.0), 4), Layer(2, (0.0, 2.0), 4)))
REGULAR = Geometry("regular", (Layer(0, (0.0, 1.0, 2.0), 4), Layer(1, (0.0, 1.0), 4)))
THRESHOLD = 0.5
N = 300


def build(name: str, scaling: str = "censored_log", mesh: Geometry = MESH) -> VoxelFamily:
    size = {"network": {"backbone": "mlp", "width": 8, "blocks": 1}}
    transforms = (LayerEnergyTransform(mesh.n_layers), VoxelTransform(mesh, scaling))
    torch.manual_seed(0)
    data = DataSpec(mesh, ("incident_energy",), (1e3, 1e5), THRESHOLD, transforms)
    family = FAMILIES.get(name)(resolve(name, "demo", {"model": size}), data)
    assert isinstance(family, VoxelFamily)
    return family


def check(showers: Tensor, layer_energy: Tensor, mesh: Geometry = MESH) -> None:
    sums = LayerSums(mesh).sum(showers.double())
    assert torch.allclose(sums, layer_energy.double(), rtol=1e-5, atol=0)
    assert ((showers == 0) | (showers >= THRESHOLD * (1 - 1e-5))).all()


@pytest.mark.parametrize("name", [name for name in FAMILIES if FAMILIES.get(name).uses_layer_energies])
def test_layers_have_the_energies_that_the_first_stage_drew(name: str) -> None:
    family = build(name)
    conditions = torch.logspace(3, 5, N)[:, None]
    noise = 2 * torch.randn(N, family.noise_features)
    with torch.no_grad():
        first = noise[:, : family.energies.noise_features]
        y, active = family.energies.decode(first, family.encoder(conditions))
        energy = family.layer_transform.decode(y, active > 0, conditions)
        wanted = torch.where(active > 0, energy.clamp_min(THRESHOLD), 0.0)
        showers = family(conditions, noise)
    assert (wanted == 0).any()
    assert (wanted > THRESHOLD).any()
    check(showers, wanted)


@pytest.mark.parametrize("width", [1.0, 10.0, 1000.0])
@pytest.mark.parametrize("scaling", VOXEL_SCALINGS)
def test_whatever_a_network_says_layers_keep_their_energy(scaling: str, width: float) -> None:
    """Wild values saturate the codings: many voxels are then equal, and too many for the energy there is."""
    generator = torch.Generator().manual_seed(0)
    energy = THRESHOLD * torch.exp(6 * torch.rand(N, 3, generator=generator))
    energy[torch.rand(N, 3, generator=generator) < 0.2] = 0
    energy[torch.rand(N, 3, generator=generator) < 0.2] = THRESHOLD
    x = width * torch.randn(N, MESH.n_voxels, generator=generator)
    check(build("vae", scaling).to_mev(x, energy), energy)


def test_turned_voxels_are_decoded_to_the_turned_shower() -> None:
    family = build("vae", mesh=REGULAR)
    energy = THRESHOLD * torch.exp(6 * torch.rand(N, 2))
    x = torch.randn(N, REGULAR.n_voxels)
    plain = family.to_mev(x, energy)
    for turns in range(REGULAR.n_rotations):
        order = torch.from_numpy(REGULAR.rotation(turns, mirror=True))
        assert torch.allclose(family.to_mev(x[:, order], energy), plain[:, order], rtol=1e-5)


def test_voxels_are_conditioned_on_incident_and_layer_energies() -> None:
    """The log of 10 GeV lies in the middle of 1 and 100; empty layers have 0 twice."""
    family = build("vae")
    condition = family.voxel_condition(torch.tensor([[1e4]]), torch.tensor([[THRESHOLD, 0.0, THRESHOLD * 1000]]))
    high = (torch.log(torch.tensor(1000.0)).item() - 4) / 3
    assert condition[0].tolist() == pytest.approx([0, -4 / 3, 0, high, 1, 0, 1], abs=1e-5)
