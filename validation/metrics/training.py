"""How the neural classifiers are trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Training:
    """How a classifier is trained; the defaults are CaloChallenge's (Krause et al. 2024, arXiv:2410.21611).

    Attributes:
        epochs: passes over the training showers; fewer only if all test showers are told apart.
        batch_size: showers of both kinds together.
        learning_rate: of Adam.
        split: showers of each kind for training, for choosing the epoch and calibrating, and for
            the result. With another number of showers they are shared in these proportions.
        repeats: trainings, each with a split and a start of its own.
    """

    epochs: int = 50
    batch_size: int = 1000
    learning_rate: float = 2e-4
    split: tuple[int, int, int] = (60_000, 20_000, 20_000)
    repeats: int = 1

    def sizes(self, n: int) -> tuple[int, int, int]:
        """Return how many of ``n`` showers of each kind are in each part."""
        first, second = (n * part // sum(self.split) for part in self.split[:2])
        return first, second, n - first - second
