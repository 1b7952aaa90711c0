"""A smooth curve and the scatter about it, over a range of energies of any width."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

KNOTS = 8
FEWEST = 2 * KNOTS
"""Showers of a kind that lines of its own need."""


class Trend(nn.Module):
    """Mean and spread of a quantity as broken lines over log E_inc, so that networks learn residuals.

    The knots are quantiles of the training energies; a discrete spectrum of few energies has one at each. Each
    kind of particle has lines of its own over the same knots.

    Attributes:
        knots: (8,) log of MeV, rising.
        mean: of the quantity at the knots, (8,), or (G, 8) with G kinds of showers.
        log_spread: log of its standard deviation, likewise.
    """

    knots: Tensor
    mean: Tensor
    log_spread: Tensor

    def __init__(self, n_kinds: int = 0) -> None:
        """Take the number of kinds; 0 where there is one."""
        super().__init__()
        shape = (n_kinds, KNOTS) if n_kinds else (KNOTS,)
        self.register_buffer("knots", torch.arange(KNOTS, dtype=torch.float32))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("log_spread", torch.zeros(shape))

    def fit(
        self, log_energy: NDArray[np.float64], values: NDArray[np.float64], kinds: NDArray[np.float64] | None = None
    ) -> None:
        """Fit the lines by least squares to (N,) values; ``kinds`` (N, G) is 1 where a value is of a kind, else 0."""
        distinct = np.unique(log_energy)
        knots = np.quantile(log_energy if len(distinct) > KNOTS else distinct, np.linspace(0, 1, KNOTS))
        # Equal knots would divide by nothing; a step of 0.1 % in energy moves no curve.
        knots = np.maximum.accumulate(knots) + 1e-3 * np.arange(KNOTS)
        self.knots.copy_(torch.from_numpy(knots))
        hats = self._hats(torch.from_numpy(log_energy).float()).double().numpy()
        every = np.ones((len(values), 1), bool) if kinds is None else kinds > 0
        every = every | (every.sum(0) < FEWEST)  # too few for lines of their own have those of all
        lines = [_lines(hats[some], values[some]) for some in every.T]
        self.mean.copy_(torch.from_numpy(np.stack([mean for mean, _ in lines])).reshape(self.mean.shape))
        self.log_spread.copy_(torch.from_numpy(np.stack([spread for _, spread in lines])).reshape(self.mean.shape))

    def forward(self, log_energy: Tensor, kinds: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation at (B,) energies of showers of (B, G) kinds; linear beyond the outer knots."""
        hats = self._hats(log_energy)
        mean, log_spread = (x if kinds is None else kinds @ x for x in (self.mean, self.log_spread))
        return (hats * mean).sum(1), torch.exp((hats * log_spread).sum(1))

    def _hats(self, log_energy: Tensor) -> Tensor:
        """Return (B, 8) weights of the knots: linear between two, and beyond the ends as between the last two."""
        step = self.knots[1:] - self.knots[:-1]
        place = (log_energy[:, None] - self.knots[:-1]) / step  # (B, 7): 0 to 1 inside each interval
        lowest, highest = torch.full_like(step, 0.0), torch.full_like(step, 1.0)
        lowest[0], highest[-1] = -torch.inf, torch.inf
        inside = torch.minimum(torch.maximum(place, lowest), highest)
        # Going through an interval moves weight from its left knot to its right one.
        first = torch.zeros_like(log_energy[:, None].expand(-1, KNOTS)).clone()
        first[:, 0] = 1
        zero = torch.zeros_like(log_energy[:, None])
        return first + torch.cat([zero, inside], 1) - torch.cat([inside, zero], 1)


def _lines(hats: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and log of the standard deviation at the knots."""
    mean = _least_squares(hats, values)
    residual = np.abs(values - hats @ mean)
    # E |x| = 0.8 sigma for a Gaussian.
    spread = np.maximum(_least_squares(hats, residual) / 0.8, 0.05 * residual.mean() + 1e-6)
    return mean, np.log(spread)


def _least_squares(hats: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve with a slight pull of neighbours towards each other, for knots without data."""
    smooth = 1e-3 * len(values) / KNOTS * np.diff(np.eye(KNOTS), axis=0)
    solution: NDArray[np.float64] = np.linalg.lstsq(
        np.concatenate([hats, smooth]), np.concatenate([values, np.zeros(KNOTS - 1)]), rcond=None
    )[0]
    return solution
