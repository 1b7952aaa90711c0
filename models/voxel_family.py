"""Families of two stages: energies and hits of the layers given the conditions, then voxels given both."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from caloforge.config import Config
from caloforge.draws import Draws
from caloforge.errors import InputError
from caloforge.models.batch import Batch, Decoded
from caloforge.models.conditions import ConditionEncoder
from caloforge.models.configuration import FamilyConfig, TrainingConfig
from caloforge.models.family import DataSpec, Family, Stage, TrainableModel
from caloforge.models.layer_energies import LayerEnergies, energy_features, layer_batch
from caloforge.models.networks.architecture import Architecture
from caloforge.models.networks.backbone import Kind
from caloforge.models.objectives.objective import Objective, ObjectiveChoice
from caloforge.models.registries import LOSSES, NETWORKS, OBJECTIVES, SAMPLERS
from caloforge.models.samplers.sampler import SamplerChoice
from caloforge.models.voxel_space import VoxelSpace
from caloforge.preprocessing.transforms import Transforms
from caloforge.preprocessing.voxel_steps import LayerSums

if TYPE_CHECKING:
    from caloforge.models.training.data import TrainingData

ENERGY_SHARE = 0.15
"""Share of a time limit that the layer energies may use; they are few numbers and learn fast."""


class Term(Config):
    """An extra term of the loss.

    Attributes:
        name: of a function in :data:`caloforge.models.registries.LOSSES`.
        weight: factor of the term.
    """

    name: str
    weight: float = Field(gt=0)

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            LOSSES.check(value)
        except InputError as error:
            raise PydanticCustomError("unknown_name", "{text}", {"text": str(error)}) from None
        return value


class VoxelFamilyConfig(FamilyConfig):
    """Configuration of a family of two stages; a family says what its network, objective and sampler are.

    Attributes:
        model: settings of the architecture; ``network`` chooses its backbone.
        objective: what it is trained for.
        sampler: how it is sampled.
        losses: extra terms of the loss, of the decoded showers in MeV; also as text, ``NAME:WEIGHT+NAME:WEIGHT``, so that
            an ablation can vary them.
        training: training of the voxels.
        energies: training of the layer energies.
    """

    model: Any
    objective: ObjectiveChoice
    sampler: SamplerChoice
    losses: tuple[Term, ...] = ()
    training: TrainingConfig = TrainingConfig()
    energies: TrainingConfig = TrainingConfig(batch_size=256)

    @field_validator("losses", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        terms = [term.partition(":") for term in value.split("+")]
        if any(not weight for _, _, weight in terms):
            text = f"expected NAME:WEIGHT+NAME:WEIGHT, e.g. sparsity:0.1, got {value!r}"
            raise PydanticCustomError("terms", "{text}", {"text": text})
        return [{"name": name, "weight": weight} for name, _, weight in terms]


class VoxelModel(TrainableModel):
    """Network-space voxels (B, V) given a condition (B, C): an architecture, what trains it, what samples it."""

    def __init__(self, network: Architecture, config: VoxelFamilyConfig) -> None:
        """Join the pieces that the configuration names."""
        super().__init__()
        self.network = network
        self.objective: Objective = OBJECTIVES.get(config.objective.name)(config.objective)
        self.sampler = SAMPLERS.get(config.sampler.name)(config.sampler)
        self.terms = [(term.weight, LOSSES.get(term.name)) for term in config.losses]
        self.parts, self.betas = self.objective.parts, self.objective.betas
        self.default_steps = self.sampler.default_steps

    def parameters_of(self, part: str) -> list[nn.Parameter]:
        """Return the parameters that the optimiser of a part moves."""
        return self.objective.parameters_of(self.network, part)

    def forward(self, part: str, batch: Batch, draws: Draws) -> Tensor:
        """Return the objective's loss and the extra terms of the showers that it makes of the batch."""
        loss = self.objective.loss(self.network, batch, draws, part=part)
        value = loss.value
        if self.terms and loss.estimate is not None:
            decoded = Decoded(batch.decode(loss.estimate().float()), loss.paired)
            for weight, term in self.terms:
                value = value + weight * term(batch, decoded)
        return value

    def noise_for(self, steps: int | None) -> int:
        """Return how many standard normal numbers a shower needs with so many steps of the sampler."""
        return self.network.noise_features * (1 + self.sampler.draws(steps))

    def decode(self, noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Map noise (B, noise_for(steps)) and conditions (B, C) to network-space voxels (B, V)."""
        return self.sampler.sample(self.objective.view(self.network), noise, condition, steps)


class VoxelFamily(VoxelSpace, Family):
    """Energies and hits of the layers given the conditions, then voxels given conditions and layers.

    Two stages as in Krause and Shih, CaloFlow, arXiv:2106.05285. A family is its architecture and the
    defaults of its configuration; any objective and sampler that fit the architecture may be chosen.

    Attributes:
        architecture: class of its networks.
    """

    Config: ClassVar[type[VoxelFamilyConfig]]
    architecture: ClassVar[type[Architecture]]
    uses_layer_energies = True
    uses_transforms = True

    def __init__(self, config: Any, data: DataSpec) -> None:
        super().__init__(config, data)
        assert data.transforms is not None
        self.sums = LayerSums(data.geometry)
        self.layer_transform, self.hit_transform, self.voxel_transform = data.transforms
        self.encoder = ConditionEncoder(data.domains)
        n, n_layers = self.encoder.n_features, data.geometry.n_layers
        self.energies = LayerEnergies(n_layers, n)
        self.voxels = VoxelModel(self.architecture(data.geometry, n + 3 * n_layers, config.model), config)
        self.noise_features = self.noise_for(None)
        self.default_steps = self.voxels.default_steps

    @classmethod
    def check(cls, config: Any) -> None:
        """Refuse an objective, sampler or backbone that does not fit.

        Raises:
            InputError: it does not.
        """
        where = f"{config.family}: "
        objective, sampler = OBJECTIVES.get(config.objective.name), SAMPLERS.get(config.sampler.name)
        if not issubclass(cls.architecture, objective.works_on):
            raise InputError(
                f"{where}objective {config.objective.name!r} trains {objective.works_on.title}, but this family is "
                f"{cls.architecture.title}; {_fitting(OBJECTIVES, lambda o: issubclass(cls.architecture, o.works_on))}"
            )
        if sampler.takes != objective.gives:
            raise InputError(
                f"{where}sampler {config.sampler.name!r} takes a {sampler.takes}, but objective "
                f"{config.objective.name!r} trains a {objective.gives}; "
                f"{_fitting(SAMPLERS, lambda s: s.takes == objective.gives)}"
            )
        check_backbone(where, cls.architecture.needs, config.model.network.backbone)

    def stages(self) -> dict[str, Stage]:
        """Return the training of layer energies and of voxels."""
        return {
            "energies": Stage(self.config.energies, self._layer_batch, share=ENERGY_SHARE, title="layer energies"),
            "voxels": Stage(self.config.training, self._voxel_batch, share=1 - ENERGY_SHARE),
        }

    def _layer_batch(self, data: TrainingData, number: int, size: int, draws: Draws) -> Batch:
        """Code the layers; see :func:`layer_batch`."""
        transforms = Transforms(self.layer_transform, self.hit_transform, self.voxel_transform)
        return layer_batch(data.batch(number, size, draws), transforms, self.encoder, draws)

    def _voxel_batch(self, data: TrainingData, number: int, size: int, draws: Draws) -> Batch:
        """Code voxels, (B, V); each shower is turned and mirrored where the sample looks the same from all sides."""
        batch = data.batch(number, size, draws, turned=True)
        context = self.sums.context(batch.layer_energy, batch.layer_hits, self.data.threshold)
        return batch.seen_as(
            self.voxel_condition(batch.raw_conditions, batch.layer_energy, batch.layer_hits),
            lambda showers: self.voxel_transform.encode(showers.voxels, context, draws),
            partial(self.to_mev, layer_energy=batch.layer_energy, layer_hits=batch.layer_hits),
        )

    def layers(self, conditions: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draw energies (B, L) in MeV and hits (B, L) of layers from (B, K) raw conditions and (B, 3L) noise."""
        threshold = self.data.threshold
        encoded = self.encoder(conditions)
        n = self.energies.n_layers
        y, active = self.energies.decode(noise[:, : 2 * n], encoded)
        energy = self.layer_transform.decode(y, active > 0, conditions[:, :1])
        energy = torch.where(active > 0, energy.clamp_min(threshold), torch.zeros_like(energy))
        h = self.energies.decode_hits(noise[:, 2 * n :], encoded, energy_features(energy, threshold))
        return energy, self.hit_transform.decode(h, energy, threshold)

    def noise_for(self, steps: int | None) -> int:
        """Return how many standard normal numbers a shower needs: for the layers, for the voxels, for each fresh noise."""
        return self.energies.noise_features + self.voxels.noise_for(steps)

    def forward(self, conditions: Tensor, noise: Tensor, steps: int | None = None) -> Tensor:
        """Draw showers: layers have the energies and hits of the first stage; see the base."""
        first, second = torch.split(noise, [self.energies.noise_features, self.voxels.noise_for(steps)], 1)
        energy, hits = self.layers(conditions, first)
        x = self.draw(second, self.voxel_condition(conditions, energy, hits), steps)
        return self.to_mev(x, energy, hits)

    def draw(self, noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Draw network-space voxels (B, V) from noise and the condition of the second stage (B, C)."""
        return self.voxels.decode(noise, condition, steps)


def check_backbone(where: str, needs: Kind, backbone: str) -> None:
    """Refuse a backbone that cannot map what is needed.

    Raises:
        InputError: it cannot; ``where`` begins the message.
    """
    if needs not in NETWORKS.get(backbone).kinds:
        raise InputError(
            f"{where}needs a backbone {needs!r}, but {backbone!r} maps "
            f"{', '.join(sorted(NETWORKS.get(backbone).kinds))}; {_fitting(NETWORKS, lambda b: needs in b.kinds)}"
        )


def _fitting(registry: Any, fits: Any) -> str:
    """Return which of a registry fit, for a message."""
    return "choose " + (" or ".join(name for name in registry if fits(registry.get(name))) or "another family")
