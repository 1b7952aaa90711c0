"""Exact likelihood of an invertible network."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.networks.invertible import Invertible
from caloforge.models.objectives.objective import Loss, Meaning, Objective, ObjectiveConfig


class LikelihoodConfig(ObjectiveConfig):
    """It has no settings of its own; see the base."""

    name: str = "likelihood"


class Likelihood(Objective):
    """-log p(x | c) / V, with p the normal density of the noise that the network maps x to, times its Jacobian.

    Source: Durkan et al., arXiv:1906.04032; for showers Ernst et al., CaloINN, arXiv:2312.09290.
    """

    Config = LikelihoodConfig
    works_on = Invertible
    gives: ClassVar[Meaning] = "map"

    def loss(self, network: Invertible, batch: Batch, draws: Draws, *, part: str = "model") -> Loss:
        """Return the negative log-likelihood per voxel; the estimate is a shower drawn backwards from noise."""
        x, condition = batch.coded, batch.condition
        value = network(x, condition).mean() / x.shape[1]
        return Loss(value, estimate=lambda: network.draw(draws.normal(*x.shape), condition))

    def view(self, network: Invertible) -> Callable[..., Tensor]:
        """Return the map from noise to showers."""
        return network.draw
