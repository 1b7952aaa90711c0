"""The small networks that all splits of a kind share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_ROWS = 16
"""Matrix products of fewer rows take other code paths, which round differently: such ones are padded,
so that a row's result does not depend on how many rows there are."""

VECTOR = 32
"""Numbers at the end of a tensor that do not fill so many are rounded differently by SiLU."""


def being_recorded() -> bool:
    """Return whether torch is recording a graph for export."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]


@dataclass(frozen=True)
class FirstLayer:
    """The first layer of a network, with what it makes of inputs that are the same for every shower.

    Attributes:
        start: (S, width) bias, and the layer's answer to those inputs, for each of S splits.
        weight: (width, F) for the other inputs.
    """

    start: Tensor
    weight: Tensor


class RowMLP(nn.Sequential):
    """Linear, SiLU, Linear, SiLU, Linear on rows; its first answers are close to 0."""

    def __init__(self, n_in: int, width: int, n_out: int) -> None:
        last = nn.Linear(width, n_out)
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.zero_()
        super().__init__(nn.Linear(n_in, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)
        self._step = VECTOR // math.gcd(VECTOR, width)

    def forward(self, x: Tensor, first: FirstLayer | None = None, split: Tensor | None = None) -> Tensor:
        """Map rows to (R, n_out); each row's result is the same whatever the others are.

        Args:
            x: (R, n_in), or (R, F) if the first layer is given.
            first: the first layer, if some of the inputs are worked out already.
            split: (R,) the split of each row in ``first``.
        """
        n = x.shape[0]
        start = first.start.index_select(0, split) if first is not None and split is not None else None
        exact = torch.is_grad_enabled() or being_recorded()
        if not exact and (more := max(LEAST_ROWS, -(-n // self._step) * self._step) - n):
            x = F.pad(x, (0, 0, 0, more))
            start = None if start is None else F.pad(start, (0, 0, 0, more))
        one, _, two, _, three = (cast("nn.Linear", layer) for layer in self)
        x = one(x) if start is None or first is None else torch.addmm(start, x, first.weight.T)
        x = F.silu(two(F.silu(x, inplace=not exact)), inplace=not exact)
        # Sums over a row's numbers are fast if each of them is contiguous for all rows.
        x = three(x) if being_recorded() else torch.addmm(three.bias[:, None], three.weight, x.T).T
        # Log-probabilities want full precision where products are done in bfloat16.
        return (x if x.shape[0] == n else x[:n]).float()


def spread_components(network: RowMLP, columns: slice, low: float, high: float) -> None:
    """Start the components of a mixture at different places: with equal ones all would learn the same."""
    bias = cast("nn.Linear", network[-1]).bias
    with torch.no_grad():
        bias[columns] = torch.linspace(low, high, bias[columns].numel())
