"""The small networks that all splits of a kind share."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_ROWS = 4
"""Matrix products of fewer rows take other code paths, which round differently: such ones are padded,
so that a row's result does not depend on how many rows there are."""


def being_recorded() -> bool:
    """Return whether torch is recording a graph for export."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]


class RowMLP(nn.Sequential):
    """Linear, SiLU, Linear, SiLU, Linear on rows; its first answers are close to 0."""

    def __init__(self, n_in: int, width: int, n_out: int) -> None:
        last = nn.Linear(width, n_out)
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.zero_()
        super().__init__(nn.Linear(n_in, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        """Map (R, n_in) to (R, n_out); each row's result is the same whatever the others are."""
        n = x.shape[0]
        if torch.is_grad_enabled() or being_recorded() or n >= LEAST_ROWS:
            # Log-probabilities want full precision where products are done in bfloat16.
            return cast("Tensor", super().forward(x)).float()  # type: ignore[no-untyped-call]
        padded = super().forward(F.pad(x, (0, 0, 0, LEAST_ROWS - n)))  # type: ignore[no-untyped-call]
        return cast("Tensor", padded)[:n].float()


def spread_components(network: RowMLP, columns: slice, low: float, high: float) -> None:
    """Start the components of a mixture at different places: with equal ones all would learn the same."""
    bias = cast("nn.Linear", network[-1]).bias
    with torch.no_grad():
        bias[columns] = torch.linspace(low, high, bias[columns].numel())
