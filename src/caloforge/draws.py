"""Random numbers for a batch, or for some of its rows: those that the whole batch would get there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor


class Draws:
    """Draw numbers row by row of a batch that several processes may share.

    Every process draws for the whole batch from equal generators and keeps its own rows, so that
    what a row gets does not depend on how many processes there are.

    Attributes:
        device: where the numbers are.
    """

    def __init__(self, generator: Generator, *, rows: slice | None = None, batch: int = 0) -> None:
        """Take a generator.

        Args:
            generator: source of the numbers.
            rows: rows of the batch that are wanted; all without it.
            batch: rows of the whole batch, where only some are wanted.
        """
        self._generator, self._rows, self._batch = generator, rows, batch
        self.device = generator.device

    def share(self, rows: Tensor) -> Tensor:
        """Return the wanted part of something that has a row for each row of the batch."""
        return rows if self._rows is None else rows[self._rows]

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Return standard normal numbers; ``shape`` begins with the number of wanted rows."""
        return self._draw(torch.randn, shape, dtype)

    def uniform(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Return uniform numbers in [0, 1); ``shape`` begins with the number of wanted rows."""
        return self._draw(torch.rand, shape, dtype)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Return whole numbers from ``low`` to ``high`` - 1; ``shape`` begins with the number of wanted rows."""
        return self._draw(lambda size, **options: torch.randint(low, high, size, **options), shape, None)

    def _draw(self, function: Callable[..., Tensor], shape: Sequence[int], dtype: torch.dtype | None) -> Tensor:
        size = tuple(shape) if self._rows is None else (self._batch, *shape[1:])
        return self.share(function(size, generator=self._generator, device=self.device, dtype=dtype))
