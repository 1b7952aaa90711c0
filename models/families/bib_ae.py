"""Bounded-information-bottleneck autoencoder with a post-processor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.configuration import TrainingConfig, by_default
from caloforge.models.family import DataSpec, Stage, needs_gpu
from caloforge.models.networks.adversarial_autoencoder import BottleneckAutoencoder
from caloforge.models.networks.autoencoder import AutoencoderConfig
from caloforge.models.networks.backbone import NetworkChoice
from caloforge.models.objectives.objective import ObjectiveChoice
from caloforge.models.post_processor import Mender, PostProcessor
from caloforge.models.samplers.sampler import SamplerChoice
from caloforge.models.voxel_family import VoxelFamily, VoxelFamilyConfig, check_backbone

if TYPE_CHECKING:
    from caloforge.models.training.data import TrainingData

POST_SHARE = 0.25
"""Share of a time limit that the post-processor may use."""


class BIBAEConfig(VoxelFamilyConfig):
    """Defaults of the BIB-AE; see the base.

    Attributes:
        post_network: backbone of the post-processor and of its critic.
        post_processing: training of the post-processor.
    """

    model: AutoencoderConfig = AutoencoderConfig()
    objective: ObjectiveChoice = by_default(name="bib_ae")
    sampler: SamplerChoice = by_default(name="one_pass")
    post_network: NetworkChoice = by_default(backbone="mlp", width=192, blocks=1)
    post_processing: TrainingConfig = TrainingConfig()


class BIBAE(VoxelFamily):
    """An autoencoder with critics on both ends, and a network that mends what it draws, trained after it.

    See :mod:`caloforge.models.objectives.bib_ae` and :mod:`caloforge.models.post_processor`.
    """

    Config = BIBAEConfig
    architecture = BottleneckAutoencoder
    note = needs_gpu(3, "no figures of this kind on CaloChallenge's showers")
    space: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "training.learning_rate": {"type": "double", "min": 0.0005, "max": 0.01, "log": True},
        "training.batch_size": {"type": "categorical", "values": [32, 64, 128]},
        "model.latent": {"type": "int", "min": 8, "max": 96, "log": True},
        "objective.beta": {"type": "double", "min": 0.05, "max": 4.0, "log": True},
        "objective.adversarial": {"type": "double", "min": 0.005, "max": 0.5, "log": True},
        "objective.mmd": {"type": "double", "min": 0.01, "max": 10.0, "log": True},
        "model.network.width": {"type": "int", "min": 48, "max": 288, "step": 48},
    }

    def __init__(self, config: Any, data: DataSpec) -> None:
        super().__init__(config, data)
        n_conditions = self.encoder.n_features + 3 * data.geometry.n_layers
        self.post_processor = PostProcessor(data.geometry, n_conditions, config.post_network)

    @classmethod
    def check(cls, config: Any) -> None:
        """Refuse pieces that do not fit; see the base."""
        super().check(config)
        check_backbone(f"{config.family}: post_network: ", Mender.needs, config.post_network.backbone)

    def stages(self) -> dict[str, Stage]:
        """Return the training of layer energies, autoencoder and post-processor."""
        post = Stage(self.config.post_processing, self._post_batch, share=POST_SHARE, title="post-processor")
        return {**super().stages(), "post_processor": post}

    def _post_batch(self, data: TrainingData, number: int, size: int, draws: Draws) -> tuple[Batch, Tensor]:
        """Return showers, and what the trained autoencoder draws for their layers, (B, V)."""
        batch = self._voxel_batch(data, number, size, draws)
        with torch.no_grad():
            drawn = super().draw(draws.normal(len(batch), self.voxels.noise_for(None)), batch.condition, None)
        return batch, drawn

    def draw(self, noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Draw network-space voxels and mend them."""
        return self.post_processor.mend(super().draw(noise, condition, steps), condition)
