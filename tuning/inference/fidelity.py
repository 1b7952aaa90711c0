"""How good the showers of a candidate are, by the metrics of the validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from caloforge.models.bundle import Generator
from caloforge.showers import Conditions, Showers, open_showers, write_showers
from caloforge.temporary import scratch_folder
from caloforge.tuning.inference.record import Fidelity, Value
from caloforge.validation.observables.features import high_level_features
from caloforge.validation.observables.summary import summarise
from caloforge.validation.registries import FEATURE_METRICS

FloatArray = NDArray[np.float64]


class Judge:
    """Compares samples of one generator with Geant4, all with the same incident particles."""

    def __init__(
        self, reference: Showers, other: Showers, generator: Generator, *, seed: int, plain: NDArray[np.float32]
    ) -> None:
        """Take what everything is compared with.

        Args:
            reference: N Geant4 showers.
            other: N more, for the floor.
            generator: whose showers are judged.
            seed: of the classifiers.
            plain: (N, V) MeV, showers of the generator in PyTorch and float32 with a seed of their own.
        """
        self._generator, self._seed, self._conditions = generator, seed, reference.conditions
        self._geant4, self._other = self._of(reference), self._of(other)
        self._plain = self.features(plain)

    def floor(self, plain: NDArray[np.float32]) -> Fidelity:
        """Return the fidelity of Geant4 beside Geant4, and of PyTorch (N, V) beside PyTorch."""
        return Fidelity(
            fpd=self._value("fpd", self._geant4, self._other),
            auc=self._value("auc", self._geant4, self._other),
            auc_plain=self._value("auc", self._plain, self.features(plain)),
        )

    def judge(self, showers: NDArray[np.float32]) -> Fidelity:
        """Return the fidelity of showers (N, V) with the incident particles of the reference."""
        features = self.features(showers)
        return Fidelity(
            fpd=self._value("fpd", self._geant4, features),
            auc=self._value("auc", self._geant4, features),
            auc_plain=self._value("auc", self._plain, features),
        )

    def features(self, showers: NDArray[np.float32]) -> FloatArray:
        """Return the high-level features of showers (N, V), (N, F)."""
        with scratch_folder() as folder:
            path = Path(folder) / "showers.hdf5"
            attributes = {"energy_threshold": self._generator.threshold, "source": "caloforge"}
            with write_showers(path, self._generator.geometry, attributes=attributes, provenance={}) as writer:
                writer.append(self._conditions, showers)
            return self._of(open_showers(path))

    def _of(self, showers: Showers) -> FloatArray:
        return high_level_features(summarise(showers, threshold=self._generator.threshold))

    def _value(self, metric: str, x: FloatArray, y: FloatArray) -> Value:
        with threadpool_limits(1, "blas"):
            found = FEATURE_METRICS.get(metric).function(x, y, self._seed)
        return Value(value=found.value, error=found.error)


def some(conditions: Conditions, n: int) -> Conditions:
    """Return n rows of conditions, repeated where there are fewer."""
    return conditions.take(np.arange(n) % len(conditions))
