"""The random numbers that showers are drawn from: a function of seed, shower and place, here and in C++."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Noise:
    """What a batch is drawn from. An engine that has the stream itself needs no numbers from here.

    Philox4x64-10 (Salmon et al., SC'11) with the key (seed, 0) maps the counters (1, i, 0, 0), (2, i, 0, 0), ... of
    shower i to four words of 64 bits each; each word is two numbers x of 32 bits, the lower half first, and
    z = Phi^-1((x + 1/2) / 2^32). ``serving/cpp/caloforge.hpp`` has the same stream.

    Attributes:
        seeds: (B,) uint64.
        showers: (B,) uint64, the number of each among those of its seed.
        n_features: numbers that a shower needs.
    """

    seeds: NDArray[np.uint64]
    showers: NDArray[np.uint64]
    n_features: int

    def __len__(self) -> int:
        """Return the number of showers."""
        return len(self.seeds)

    def normal(self) -> NDArray[np.float32]:
        """Return the numbers, (B, n_features) float32, standard normal."""
        from scipy.special import ndtri  # names of engines are known without it

        result = np.empty((len(self), self.n_features), np.float32)
        for row, seed, shower in zip(result, self.seeds, self.showers, strict=True):
            words = np.random.Philox(key=int(seed), counter=[0, int(shower), 0, 0]).random_raw(-(-self.n_features // 2))
            row[:] = ndtri((words.astype("<u8").view("<u4")[: self.n_features] + 0.5) * 2.0**-32)
        return result

    @classmethod
    def joined(cls, parts: Sequence[Noise]) -> Self:
        """Return those of several batches of one generator, one after the other."""
        return cls(
            np.concatenate([part.seeds for part in parts]),
            np.concatenate([part.showers for part in parts]),
            parts[0].n_features,
        )


class NoiseStream:
    """The showers of a seed, one after the other: each has the same numbers whatever was asked for before."""

    def __init__(self, seed: int, n_features: int) -> None:
        """Start at shower 0."""
        self._seed, self._n_features = seed, n_features
        self._next = 0

    def take(self, n: int) -> Noise:
        """Return what the next n showers are drawn from."""
        showers = np.arange(self._next, self._next + n, dtype=np.uint64)
        self._next += n
        return Noise(np.full(n, self._seed, np.uint64), showers, self._n_features)

    def rows(self, n: int) -> NDArray[np.float32]:
        """Return the next (n, n_features) float32 numbers."""
        return self.take(n).normal()
