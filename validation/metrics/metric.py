"""What a metric is: of two samples as a whole, or of the distributions of one observable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from caloforge.validation.metrics.result import Result
    from caloforge.validation.metrics.sample import Sample
    from caloforge.validation.observables.observable import Observable
    from caloforge.validation.observables.summary import Profile

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureMetric:
    """A metric of two samples as a whole, seen through their high-level features.

    Attributes:
        label: name in tables.
        function: (reference, generated) features and a seed to the result.
    """

    label: str
    function: Callable[[FloatArray, FloatArray, int], Result]


@dataclass(frozen=True)
class SampleMetric:
    """Metrics of two samples as a whole that need more than their features, computed together.

    Attributes:
        labels: names in tables by key.
        function: (reference, generated) samples of the same size and a seed to the results by key.
    """

    labels: Mapping[str, str]
    function: Callable[[Sample, Sample, int], Mapping[str, Result]]


@dataclass(frozen=True)
class DistributionMetric:
    """A metric of the distributions of one observable.

    Attributes:
        label: name in tables.
        mean_label: name of its mean over observables.
        function: the observable and its (reference, generated) columns to the result.
        of_profiles: (reference, generated) spectra and the number of showers to the result.
    """

    label: str
    mean_label: str
    function: Callable[[Observable, FloatArray, FloatArray], Result]
    of_profiles: Callable[[Profile, Profile, int], Result]
