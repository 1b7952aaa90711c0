"""Showers whose voxels are independent normal numbers: what a network should say of them is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from caloforge.draws import Draws
from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.models.batch import Batch
from caloforge.models.objectives.objective import Objective

MEAN, STD = 0.7, 0.4
LINE = CylindricalGeometry("line", (Layer(0, (0.0, 1.0, 2.0), 1),))

BATCHES, ROWS = 20, 5000


def gaussian_velocity(x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
    """Return the exact velocity E[x_1 - x_0 | x_t] for showers from N(MEAN, STD^2) per voxel."""
    variance = (1 - t) ** 2 + (t * STD) ** 2
    return MEAN + (t * STD**2 - (1 - t)) / variance * (x - t * MEAN)


def gaussian_target(target: str, x: Tensor, t: Tensor) -> Tensor:
    """Return what an exact denoiser gives for showers from N(MEAN, STD^2), on the cosine schedule."""
    a, s = torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2)
    variance = (a * STD) ** 2 + s**2
    clean = MEAN + a * STD**2 / variance * (x - a * MEAN)
    noise = s / variance * (x - a * MEAN)
    return {"v": a * noise - s * clean, "eps": noise, "x": clean}[target]


def coded_batch(x: Tensor, condition: Tensor | None = None) -> Batch:
    """Return a batch whose network-space showers are x (B, V)."""
    n = len(x)
    batch = Batch(
        LINE,
        0.1,
        raw_conditions=torch.ones(n, 1),
        layer_energy=torch.ones(n, 1),
        layer_hits=torch.ones(n, 1),
        voxels=lambda: x,
    )
    return batch.seen_as(torch.zeros(n, 1) if condition is None else condition, lambda _: x)


def seeded(seed: int) -> Draws:
    return Draws(torch.Generator().manual_seed(seed))


class _NearlyExact(nn.Module):
    """The exact network, and directions in which it could still be moved."""

    def __init__(self, exact: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.exact = exact
        self.change = nn.Parameter(torch.zeros(4, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        offset, slope, drift, twist = self.change
        return self.exact(x, t) + offset + slope * x + drift * t + twist * x * t


class Optimum(NamedTuple):
    """Loss () and gradient (4,) of the exact network, with their standard errors."""

    loss: Tensor
    loss_error: Tensor
    gradient: Tensor
    gradient_error: Tensor


def at_the_optimum(objective: Objective, exact: Callable[[Tensor, Tensor], Tensor]) -> Optimum:
    """Give the objective the exact network of x and t, over BATCHES batches of ROWS showers."""
    losses, gradients = [], []
    for seed in range(BATCHES):
        draws = seeded(seed)
        x = MEAN + STD * draws.normal(ROWS, 2, dtype=torch.float64)
        network = _NearlyExact(exact)
        loss = objective.loss(network, coded_batch(x), draws).value
        losses.append(loss.detach())
        gradients.append(torch.autograd.grad(loss, network.change)[0])
    loss, gradient = torch.stack(losses), torch.stack(gradients)
    return Optimum(loss.mean(), loss.std() / BATCHES**0.5, gradient.mean(0), gradient.std(0) / BATCHES**0.5)


def check_optimum(found: Optimum, least: float) -> None:
    """Compare with the least loss: 4 standard errors of at most 1 %, and no gradient within as many."""
    assert found.loss_error < 0.01 * least
    assert abs(found.loss - least) < 4 * found.loss_error
    assert (found.gradient_error < 0.02).all()
    assert (found.gradient.abs() < 4 * found.gradient_error).all()
