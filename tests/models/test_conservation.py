"""What holds for every shower by construction, whatever the networks say: energies and hits of layers, threshold, empty layers."""

from __future__ import annotations

import pytest
import torch
from small_families import small_network
from torch import Tensor

from caloforge.domain import Domain
from caloforge.geometry import CylindricalGeometry, Geometry, Layer
from caloforge.models.family import DataSpec
from caloforge.models.layer_energies import energy_features, hit_features
from caloforge.models.presets import resolve
from caloforge.models.registries import FAMILIES
from caloforge.models.voxel_family import VoxelFamily
from caloforge.preprocessing.transforms import VOXEL_SCALINGS, Transforms
from caloforge.preprocessing.voxel_steps import LayerSums

MESH = CylindricalGeometry(
    "mesh", (Layer(0, (0.0, 1.0), 1), Layer(1, (0.0, 1.0, 2.0, 3.0), 4), Layer(2, (0.0, 2.0), 4))
)
REGULAR = CylindricalGeometry("regular", (Layer(0, (0.0, 1.0, 2.0), 4), Layer(1, (0.0, 1.0), 4)))
THRESHOLD = 0.5
N = 300


def build(name: str, scaling: str = "quantile", mesh: Geometry = MESH) -> VoxelFamily:
    torch.manual_seed(0)
    data = DataSpec(mesh, {"incident_energy": Domain(low=1e3, high=1e5)}, THRESHOLD, Transforms.of(mesh, scaling))
    family = FAMILIES.get(name)(resolve(name, "demo", {"model": small_network(name, 8)}), data)
    assert isinstance(family, VoxelFamily)
    return family


def check(showers: Tensor, layer_energy: Tensor, layer_hits: Tensor, mesh: Geometry = MESH) -> None:
    sums = LayerSums(mesh)
    assert torch.allclose(sums.sum(showers.double()), layer_energy.double(), rtol=1e-5, atol=0)
    assert torch.equal(sums.sum((showers > 0).float()), layer_hits)
    assert ((showers == 0) | (showers >= THRESHOLD)).all()


@pytest.mark.parametrize("name", [name for name in FAMILIES if FAMILIES.get(name).uses_layer_energies])
def test_layers_have_the_energies_and_hits_that_the_first_stage_drew(name: str) -> None:
    family = build(name)
    conditions = torch.logspace(3, 5, N)[:, None]
    noise = 2 * torch.randn(N, family.noise_features)
    with torch.no_grad():
        energy, hits = family.layers(conditions, noise[:, : family.energies.noise_features])
        showers = family(conditions, noise)
    assert (energy == 0).any()
    assert (energy > THRESHOLD).any()
    assert torch.equal(energy > 0, hits > 0)
    assert (hits * THRESHOLD <= energy * (1 + 1e-6)).all()
    assert (hits <= torch.tensor([1.0, 12.0, 4.0])).all()
    check(showers, energy, hits)


@pytest.mark.parametrize("width", [1.0, 10.0, 1000.0])
@pytest.mark.parametrize("scaling", VOXEL_SCALINGS)
def test_whatever_a_network_says_layers_keep_their_energy_and_hits(scaling: str, width: float) -> None:
    """Wild values saturate the codings: many voxels are then equal, and too many for the energy there is."""
    generator = torch.Generator().manual_seed(0)
    energy = THRESHOLD * torch.exp(6 * torch.rand(N, 3, generator=generator))
    energy[torch.rand(N, 3, generator=generator) < 0.2] = 0
    energy[torch.rand(N, 3, generator=generator) < 0.2] = THRESHOLD
    family = build("vae", scaling)
    hits = family.hit_transform.decode(2 * torch.randn(N, 3, generator=generator), energy, THRESHOLD)
    x = width * torch.randn(N, MESH.n_voxels, generator=generator)
    check(family.to_mev(x, energy, hits), energy, hits)
    check(family.to_mev(torch.full_like(x, width), energy, hits), energy, hits)


def test_turned_voxels_are_decoded_to_the_turned_shower() -> None:
    family = build("vae", mesh=REGULAR)
    energy = THRESHOLD * torch.exp(6 * torch.rand(N, 2))
    hits = family.hit_transform.decode(torch.randn(N, 2), energy, THRESHOLD)
    x = torch.randn(N, REGULAR.n_voxels)
    plain = family.to_mev(x, energy, hits)
    for turns in range(REGULAR.n_rotations):
        order = torch.from_numpy(REGULAR.rotation(turns, mirror=True))
        assert torch.allclose(family.to_mev(x[:, order], energy, hits), plain[:, order], rtol=1e-5)


def test_voxels_are_conditioned_on_incident_energy_and_on_energies_and_hits_of_layers() -> None:
    """The log of 10 GeV lies in the middle of 1 and 100."""
    family = build("vae")
    energy, hits = torch.tensor([[THRESHOLD, 0.0, THRESHOLD * 1000]]), torch.tensor([[1.0, 0.0, 2.0]])
    condition = family.voxel_condition(torch.tensor([[1e4]]), energy, hits)
    wanted = [0, *energy_features(energy, THRESHOLD)[0], *hit_features(hits, torch.tensor([1.0, 12.0, 4.0]))[0]]
    assert condition[0].tolist() == pytest.approx([float(value) for value in wanted], abs=1e-6)
