"""The distribution of layer energies: that it is one, and that it is the one that is drawn from."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from exact_gaussian import coded_batch, seeded
from torch import Tensor, nn

from caloforge.models.layer_energies import LayerEnergies, energy_features, hit_features
from caloforge.models.networks.couplings import negative_log_likelihood

N = 20000
PATTERNS = torch.tensor(list(product((0.0, 1.0), repeat=2)))
CONDITION = torch.tensor([[0.3]])


def model_of(n_layers: int) -> LayerEnergies:
    """A model whose occupancies depend on each other, and whose splines are far from the identity."""
    torch.manual_seed(0)
    model = LayerEnergies(n_layers, 1, width=16, couplings=2, bins=4)
    for parameter in model.occupancy.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=1.0)
    for coupling in [*model.couplings, *model.hits]:
        nn.init.constant_(coupling.scale, 1.0)
    return model


def likelihood(model: LayerEnergies, y: Tensor, active: Tensor) -> Tensor:
    with torch.no_grad():
        n = len(y)
        return torch.exp(-model.negative_log_likelihood(y, active.expand(n, -1), CONDITION.expand(n, -1)))


def patterns_of(model: LayerEnergies) -> Tensor:
    """Return the probability of each of PATTERNS: the sum over a grid of ratios."""
    axis = torch.linspace(-7, 7, 141)
    grid = torch.cartesian_prod(axis, axis)
    cell = (axis[1] - axis[0]).item() ** 2
    return torch.stack([likelihood(model, grid, active).sum() * cell for active in PATTERNS])


def test_likelihood_sums_to_one_over_occupancies_and_ratios() -> None:
    found = patterns_of(model_of(2))
    assert (found > 0.01).all(), "each pattern has its share"
    assert found.sum().item() == pytest.approx(1, abs=5e-3)


def test_the_loss_is_the_mean_per_layer_of_energies_and_hits() -> None:
    model = model_of(2)
    y, active, h, told = torch.randn(6, 2), (torch.rand(6, 2) > 0.5).float(), torch.randn(6, 2), torch.randn(6, 4)
    condition = CONDITION.expand(6, -1)
    hits = negative_log_likelihood(model.hits, h, torch.cat([condition, told], 1))
    wanted = (model.negative_log_likelihood(y, active, condition) + hits).mean() / 2
    batch = coded_batch(torch.cat([y, active, h, told], 1), condition)
    assert model("model", batch, seeded(0)).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_what_is_drawn_has_that_likelihood() -> None:
    model = model_of(2)
    with torch.no_grad():
        y, active = model.decode(seeded(0).normal(N, 4), CONDITION.expand(N, -1))
    wanted = patterns_of(model)
    # A shower without energy is given some in its likeliest layer; the others are drawn as they are.
    found = torch.stack([(active == pattern).all(1).float().mean() for pattern in PATTERNS])
    assert found[0] == 0
    assert found[3].item() == pytest.approx(wanted[3].item(), abs=5 * 0.5 / N**0.5)
    assert (found[1:3] > wanted[1:3] - 5 * 0.5 / N**0.5).all()
    # E[1 / p] over what is drawn from p is the volume: here that of the square in which the ratios are.
    both = y[(active == 1).all(1)]
    inside = both[(both.abs() < 1).all(1)]
    volume = (1 / likelihood(model, inside, PATTERNS[3])).sum() / N
    assert volume.item() == pytest.approx(4, rel=0.1)


def test_hits_are_drawn_from_their_likelihood_given_the_energies() -> None:
    model = model_of(2)
    told = torch.tensor([[0.4, -0.3, 1.0, 1.0]])
    with torch.no_grad():
        h = model.decode_hits(seeded(0).normal(N, 2), CONDITION.expand(N, -1), told.expand(N, -1))
        given = torch.cat([CONDITION, told], 1)
        other = model.decode_hits(seeded(0).normal(N, 2), CONDITION.expand(N, -1), -told.expand(N, -1))
        inside = h[(h.abs() < 1).all(1)]
        volume = torch.exp(negative_log_likelihood(model.hits, inside, given.expand(len(inside), -1))).sum() / N
    assert volume.item() == pytest.approx(4, rel=0.1)
    assert (h - other).abs().mean() > 0.05, "the energies matter"


def test_what_voxels_and_hits_are_told() -> None:
    energies = energy_features(torch.tensor([[0.5, 0.0, 500.0]]), 0.5)
    high = (torch.log(torch.tensor(1000.0)).item() - 4) / 3
    assert energies[0].tolist() == pytest.approx([-4 / 3, 0, high, 1, 0, 1], abs=1e-5)
    hits = hit_features(torch.tensor([[2.0, 0.0, 3.0]]), torch.tensor([4.0, 4.0, 3.0]))
    assert hits[0].tolist() == pytest.approx([0, 0, torch.log(torch.tensor(7.0)).item() / 2], abs=1e-6)
