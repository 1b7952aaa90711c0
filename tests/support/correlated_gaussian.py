"""Showers from a normal distribution whose voxels depend on each other: the best denoiser is known, and where it leads."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MEAN = torch.tensor([0.7, -0.3, 0.2], dtype=torch.float64)
_ROOT = torch.tensor([[0.5, 0.0, 0.0], [0.3, 0.4, 0.0], [-0.2, 0.1, 0.9]], dtype=torch.float64)
COVARIANCE = _ROOT @ _ROOT.T
_WIDTHS, _AXES = torch.linalg.eigh(COVARIANCE)


def denoise(x: Tensor, t: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
    """Return the expected shower and noise in x (B, 3) at times t (B, 1), all the same."""
    angle = float(t[0, 0]) * math.pi / 2
    a, s = math.cos(angle), math.sin(angle)
    gain = _AXES @ torch.diag(1 / (a**2 * _WIDTHS + s**2)) @ _AXES.T
    pull = (x - a * MEAN) @ gain
    return MEAN + a * pull @ COVARIANCE, s * pull


def end_of_the_way(x: Tensor, angle: float) -> Tensor:
    """Return where the deterministic way down from x (B, 3) at an angle ends."""
    a, s = math.cos(angle), math.sin(angle)
    shrink = _AXES @ torch.diag((_WIDTHS / (a**2 * _WIDTHS + s**2)).sqrt()) @ _AXES.T
    return MEAN + (x - a * MEAN) @ shrink
