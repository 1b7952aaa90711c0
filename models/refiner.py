"""A corrector from fast to full simulation: bridges from the codes of fast showers to those of full ones."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from caloforge.config import Config
from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.conditions import ConditionEncoder
from caloforge.models.configuration import TrainingConfig, by_default
from caloforge.models.family import DataSpec, TrainableModel
from caloforge.models.networks.backbone import Backbone, NetworkChoice, build_network
from caloforge.models.networks.mlp import MLPConfig, ResidualMLP
from caloforge.models.networks.vector_field import N_TIME_FEATURES, time_features
from caloforge.models.objectives.flow_matching import normal_velocity
from caloforge.models.registries import SAMPLERS
from caloforge.models.samplers.sampler import SamplerChoice
from caloforge.models.voxel_space import VoxelSpace
from caloforge.preprocessing.voxel_steps import LayerSums

_EDGE = 1e-6
"""Least distance of a chance from 0 and 1 where it becomes a normal quantile."""


class RefinerConfig(Config):
    """How a corrector is built, trained and applied.

    Attributes:
        network: backbone of the voxels' bridge.
        layer_network: of the layers' bridge.
        sampler: how the bridges are crossed; it takes a velocity.
        blur: standard deviation of the noise b in sqrt(1 - b^2) x + b noise, from which the voxels' bridge starts at a fast
            shower's code x: 0 keeps the shower, 1 forgets it. A flow fills no more dimensions than it starts from,
            and a generator with a small latent space fills few.
        layers: training of the layers' bridge.
        voxels: training of the voxels' bridge.
    """

    network: NetworkChoice = by_default(backbone="layers", width=96, blocks=3, heads=4)
    layer_network: MLPConfig = MLPConfig(width=192, blocks=3)
    sampler: SamplerChoice = by_default(name="heun", steps=10)
    blur: float = Field(default=0.8, ge=0, le=1)
    layers: TrainingConfig = TrainingConfig(steps=1500, batch_size=256, learning_rate=2e-3, ema=0.99)
    voxels: TrainingConfig = TrainingConfig(steps=2700, batch_size=64, learning_rate=4e-3, ema=0.99)


class Bridge(TrainableModel):
    """Velocity of straight paths x_t = (1 - t) x_0 + t x_1 from a fast shower x_0 to a full one x_1.

    Where the pairs are, the flow of the trained velocity takes the distribution of x_0 to that of x_1, given the
    condition: Liu et al., rectified flow, arXiv:2209.03003, theorem 3.3; Albergo and Vanden-Eijnden, arXiv:2209.15571.
    The network gives what has to be added to the velocity between independent normal numbers, which is what the codes
    of both are but for their correlations.
    """

    def __init__(self, network: Backbone) -> None:
        """Take a network from (B, F) and a condition with the features of time to (B, F)."""
        super().__init__()
        self.network = network

    def forward(self, part: str, batch: tuple[Tensor, Tensor, Tensor], draws: Draws) -> Tensor:
        """Return the mean squared error of the velocity of pairs (B, F), (B, F) with a condition (B, C)."""
        source, target, condition = batch
        t = torch.sigmoid(draws.normal(len(target), 1))
        between = (1 - t) * source + t * target
        return (self.velocity(between, t, condition) - (target - source)).square().mean()

    def velocity(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the velocity at x (B, F) and times t (B, 1), given a condition (B, C)."""
        told = torch.cat([condition, time_features(t, N_TIME_FEATURES)], 1)
        found: Tensor = normal_velocity(x, t) + self.network(x, told)
        return found


class Refiner(VoxelSpace):
    """Two bridges: of which layers have energy, how much, and how many hits; then of the voxels given the layers.

    Fast showers are coded as the generators code full ones, voxels relative to their own layers, and decoded with the
    corrected layers: zeros, threshold, hits and energies of layers are exact.

    Attributes:
        config: how it was built.
        empty: (L,) share of full showers in which a layer is empty; set by :meth:`begin`.
        noise_features: random numbers for a shower, which say where within its zeros and hits a voxel lies.
    """

    empty: Tensor

    def __init__(self, config: RefinerConfig, data: DataSpec) -> None:
        """Build the networks with weights from torch's global random numbers, which the caller seeds."""
        super().__init__()
        assert data.transforms is not None
        n_layers, n_voxels = data.geometry.n_layers, data.geometry.n_voxels
        self.config, self.data = config, data
        self.sums = LayerSums(data.geometry)
        self.layer_transform, self.hit_transform, self.voxel_transform = data.transforms
        self.encoder = ConditionEncoder(data.domains)
        self.register_buffer("empty", torch.zeros(n_layers))
        n = self.encoder.n_features
        self.layers = Bridge(ResidualMLP(3 * n_layers, 3 * n_layers, n + N_TIME_FEATURES, config.layer_network))
        self.voxels = Bridge(
            build_network(data.geometry, config.network, n_conditions=n + 3 * n_layers + N_TIME_FEATURES)
        )
        self.sampler = SAMPLERS.get(config.sampler.name)(config.sampler)
        self.noise_features = 5 * n_layers + 2 * n_voxels

    def begin(self, active: Tensor) -> None:
        """Take which layers of full showers have energy, (N, L) of 0 and 1."""
        self.empty.copy_(1 - active.float().mean(0))

    def encode_layers(self, batch: Batch, draws: Draws) -> Tensor:
        """Return (B, 3L): whether layers have energy as normal quantiles, coded ratios, coded hits."""
        energy, empty = batch.layer_energy, self.empty
        y, active = self.layer_transform.encode(energy, batch.raw_conditions[:, :1], draws)
        uniform = draws.uniform(*energy.shape)
        chance = torch.where(active, empty + (1 - empty) * uniform, empty * uniform)
        h = self.hit_transform.encode(batch.layer_hits, energy, self.data.threshold, draws)
        return torch.cat([_quantile(chance), y, h], 1)

    def decode_layers(self, coded: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies in MeV and hits of layers, (B, L) each, of their codes (B, 3L) and raw conditions (B, K)."""
        occupied, y, h = coded.chunk(3, 1)
        margin = 0.5 * (1 + torch.erf(occupied / math.sqrt(2))) - self.empty
        # No full shower is without any energy: the layer that is nearest to some gets it.
        active = (margin > 0) | (margin >= margin.max(1, keepdim=True).values)
        energy = self.layer_transform.decode(y, active, conditions[:, :1])
        energy = torch.where(active, energy.clamp_min(self.data.threshold), torch.zeros_like(energy))
        return energy, self.hit_transform.decode(h, energy, self.data.threshold)

    def encode_voxels(self, batch: Batch, draws: Draws) -> Tensor:
        """Return (B, V): voxels coded relative to the layers of their own shower."""
        context = self.sums.context(batch.layer_energy, batch.layer_hits, self.data.threshold)
        return self.voxel_transform.encode(batch.voxels, context, draws)

    def blurred(self, coded: Tensor, draws: Draws) -> Tensor:
        """Return where the voxels' bridge starts from the codes (B, V) of fast showers."""
        blur = self.config.blur
        return math.sqrt(1 - blur**2) * coded + blur * draws.normal(*coded.shape)

    def refine(self, conditions: Tensor, voxels: Tensor, draws: Draws, steps: int | None = None) -> Tensor:
        """Correct showers.

        Args:
            conditions: (B, K) float32, raw.
            voxels: (B, V) MeV, none between 0 and the threshold.
            draws: places voxels within their zeros and hits.
            steps: of the sampler; None for its own.

        Returns:
            (B, V) float32, MeV, likewise.
        """
        context = self.sums.context_of(voxels, self.data.threshold)
        batch = Batch(
            self.data.geometry, self.data.threshold, raw_conditions=conditions, layer_energy=context.layer_energy,
            layer_hits=context.layer_hits, voxels=lambda: voxels,
        )  # fmt: skip
        told = self.encoder(conditions)
        layers = self.sampler.sample(self.layers.velocity, self.encode_layers(batch, draws), told, steps)
        energy, hits = self.decode_layers(layers, conditions)
        told = self.voxel_condition(conditions, energy, hits)
        start = self.blurred(self.encode_voxels(batch, draws), draws)
        x = self.sampler.sample(self.voxels.velocity, start, told, steps)
        return self.to_mev(x, energy, hits)


def _quantile(chance: Tensor) -> Tensor:
    """Return standard normal quantiles of chances."""
    return math.sqrt(2) * torch.erfinv(2 * chance.clamp(_EDGE, 1 - _EDGE) - 1)


def own_state(refiner: Refiner) -> dict[str, Any]:
    """Return the state of a corrector without that of the fitted codings, which have a file of their own."""
    codings = ("layer_transform.", "hit_transform.", "voxel_transform.")
    return {name: value for name, value in refiner.state_dict().items() if not name.startswith(codings)}
