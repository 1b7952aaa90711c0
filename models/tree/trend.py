"""A smooth curve and the scatter about it, over a range of energies of any width."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

KNOTS = 8


class Trend(nn.Module):
    """Mean and spread of a quantity as broken lines over log E_inc, so that networks learn residuals.

    The knots are quantiles of the training energies; a discrete spectrum of few energies has one at each.

    Attributes:
        knots: (8,) log of MeV, rising.
        mean: (8,) of the quantity at the knots.
        log_spread: (8,) log of its standard deviation.
    """

    knots: Tensor
    mean: Tensor
    log_spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("knots", torch.arange(KNOTS, dtype=torch.float32))
        self.register_buffer("mean", torch.zeros(KNOTS))
        self.register_buffer("log_spread", torch.zeros(KNOTS))

    def fit(self, log_energy: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Fit both lines by least squares to (N,) values."""
        distinct = np.unique(log_energy)
        knots = np.quantile(log_energy if len(distinct) > KNOTS else distinct, np.linspace(0, 1, KNOTS))
        # Equal knots would divide by nothing; a step of 0.1 % in energy moves no curve.
        knots = np.maximum.accumulate(knots) + 1e-3 * np.arange(KNOTS)
        self.knots.copy_(torch.from_numpy(knots))
        hats = self._hats(torch.from_numpy(log_energy).float()).double().numpy()
        self.mean.copy_(torch.from_numpy(_least_squares(hats, values)))
        residual = np.abs(values - hats @ self.mean.double().numpy())
        # E |x| = 0.8 sigma for a Gaussian.
        spread = np.maximum(_least_squares(hats, residual) / 0.8, 0.05 * residual.mean() + 1e-6)
        self.log_spread.copy_(torch.from_numpy(np.log(spread)))

    def forward(self, log_energy: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation at (B,) energies; linear beyond the outer knots."""
        hats = self._hats(log_energy)
        return (hats * self.mean).sum(1), torch.exp((hats * self.log_spread).sum(1))

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


def _least_squares(hats: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve with a slight pull of neighbours towards each other, for knots without data."""
    smooth = 1e-3 * len(values) / KNOTS * np.diff(np.eye(KNOTS), axis=0)
    solution: NDArray[np.float64] = np.linalg.lstsq(
        np.concatenate([hats, smooth]), np.concatenate([values, np.zeros(KNOTS - 1)]), rcond=None
    )[0]
    return solution
