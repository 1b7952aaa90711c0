"""How likely samples are under a generator whose likelihood is exact: do they look to it as Geant4 does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ks_2samp, norm

from caloforge.errors import InputError
from caloforge.models.bundle import Generator, bundle_folder, load_bundle
from caloforge.models.likelihood.calibration import Calibration
from caloforge.models.likelihood.log_prob import TOTAL, log_probs
from caloforge.models.likelihood.score import check_scorable, read_calibration
from caloforge.showers import Showers
from caloforge.validation.figures.found import Found, figure_rows
from caloforge.validation.row import Row
from caloforge.validation.significance import LARGEST, either_way

FloatArray = NDArray[np.float64]

_SPREAD = math.sqrt(math.pi**2 / 12 - math.pi * math.log(2) ** 2 / 2)
"""Standard deviation of Kolmogorov's distribution, 0.26."""


@dataclass(frozen=True)
class Scores:
    """How likely n showers are, as :class:`caloforge.models.likelihood.calibration.Calibration` counts it.

    Attributes:
        residual: (m,) standard deviations that log p is above the ordinary one of that energy, of the m showers that
            can be.
        distance: (n,) of the parts from the ordinary ones; very large for a shower that cannot be.
    """

    residual: FloatArray
    distance: FloatArray

    @property
    def impossible(self) -> int:
        """Showers whose probability is zero."""
        return len(self.distance) - len(self.residual)


@dataclass(frozen=True)
class Scorer:
    """A generator that says how likely showers are.

    Attributes:
        generator: of a family with a likelihood.
        calibration: what is usual.
        weights: the file of its weights.
    """

    generator: Generator
    calibration: Calibration
    weights: Path

    @classmethod
    def open(cls, bundle: Path, samples: Mapping[str, Showers]) -> Self:
        """Load a bundle and see, before any work, that it can score all samples.

        Raises:
            InputError: the bundle is damaged, has no likelihood or no calibration, or the showers do not fit it.
        """
        generator = load_bundle(bundle, device="cuda" if torch.cuda.is_available() else "cpu")
        for name, showers in samples.items():
            try:
                check_scorable(generator, showers)
            except InputError as error:
                raise InputError(f"{bundle}: cannot say how likely the {name} is: {error}") from None
        calibration = read_calibration(bundle)
        if calibration is None:
            raise InputError(
                f"{bundle}: trained by a version that did not keep what is usual; train the generator again, or judge "
                "without --likelihood"
            )
        return cls(generator, calibration, bundle_folder(bundle) / "weights.safetensors")

    def score(self, showers: Showers) -> Scores:
        """Return how likely showers are; they are read in chunks."""
        pieces = list(log_probs(self.generator.network, showers))
        log_prob = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        residuals = self.calibration.residuals(showers.conditions, log_prob)
        return Scores(residuals[TOTAL][np.isfinite(log_prob[TOTAL])], self.calibration.distances(residuals))


def likelihood_rows(reference: Scores, floor: Scores, generated: Mapping[str, Scores]) -> Iterator[Row]:
    """Return two physics figures that compare how likely samples are.

    The first is the mean residual of a sample above the reference's, either way: showers that are too ordinary are
    as wrong as unlikely ones. The second compares the distributions of the distances (Kolmogorov and Smirnov), which
    finds defects of a part that another one makes up for, and showers that cannot be. ``extra`` has ``impossible``, how
    many these are.

    Args:
        reference: of held-out showers.
        floor: of more of them.
        generated: generator name to the scores of its sample.
    """
    n = len(reference.distance)
    for name, title, compare in (
        ("log_likelihood", "Log-likelihood, mean difference in std. dev. of showers", _shift),
        ("likelihood_parts", "Parts of the log-likelihood, largest difference of their distributions", _disagreement),
    ):
        others = {key: compare(scores, reference) for key, scores in generated.items()}
        yield from figure_rows(name, title, compare(floor, reference), others, n=n, value=None, error=None)


def _shift(scores: Scores, reference: Scores) -> Found:
    extra = {"impossible": float(scores.impossible)}
    x, y = scores.residual, reference.residual
    if min(len(x), len(y)) < 2:
        return Found(None, None, LARGEST, extra=extra)
    difference = float(x.mean() - y.mean())
    error = math.hypot(x.std(ddof=1) / math.sqrt(len(x)), y.std(ddof=1) / math.sqrt(len(y)))
    return Found(difference, error, either_way(difference / error) if error > 0 else 0.0, extra=extra)


def _disagreement(scores: Scores, reference: Scores) -> Found:
    x, y = scores.distance, reference.distance
    found = ks_2samp(x, y, method="asymp")
    error = _SPREAD * math.sqrt(1 / len(x) + 1 / len(y))
    sigma = float(np.clip(norm.isf(found.pvalue), -LARGEST, LARGEST))
    return Found(float(found.statistic), error, sigma, extra={"impossible": float(scores.impossible)})
