"""Does a generator follow its condition: total energy against incident energy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm, rankdata, t

from caloforge.validation.figures.found import Found, figure_rows
from caloforge.validation.metrics.result import Result
from caloforge.validation.observables.per_shower import response
from caloforge.validation.observables.summary import Summary
from caloforge.validation.row import Parts, Row
from caloforge.validation.significance import LARGEST, either_way

FloatArray = NDArray[np.float64]

N_BOOTSTRAPS = 60
FEWEST = 10
"""Showers that an energy bin needs to count."""


def conditioning(
    reference: Summary, floor: Summary, generated: Mapping[str, Summary], edges: FloatArray, *, seed: int
) -> Iterator[Row]:
    """Return the physics figures that say whether samples follow the incident energy.

    Pearson's and Spearman's correlation of the total with the incident energy, and the response in
    bins of incident energy. A sample of one incident energy has none of them but the last.

    Args:
        reference: held-out showers.
        floor: more of them.
        generated: the generators' samples.
        edges: of the bins of incident energy, MeV.
        seed: of the bootstrap.
    """
    n = len(reference)
    for key, (title, ranks) in CORRELATIONS.items():
        own = energy_correlation(reference, ranks=ranks, seed=seed)
        if own is None:
            continue
        yield from figure_rows(
            key, title, _distance(energy_correlation(floor, ranks=ranks, seed=seed), own),
            {
                name: _distance(energy_correlation(summary, ranks=ranks, seed=seed), own)
                for name, summary in generated.items()
            },
            n=n, value=own.value, error=own.error,
        )  # fmt: skip
    yield from figure_rows(
        "response_calibration", "Response in bins of incident energy, chi² over bins",
        response_calibration(reference, floor, edges),
        {name: response_calibration(reference, s, edges) for name, s in generated.items()}, n=n,
    )  # fmt: skip


CORRELATIONS = {
    "energy_correlation": ("Correlation of the total with the incident energy", False),
    "energy_rank_correlation": ("Rank correlation of the total with the incident energy", True),
}


def energy_correlation(summary: Summary, *, ranks: bool, seed: int) -> Result | None:
    """Return the correlation of total and incident energy, of their ranks for Spearman's.

    Returns:
        Its error is a bootstrap's. None if one of the energies never varies.
    """
    pair = [summary.incident_energy, summary.total_energy]
    if ranks:
        pair = [rankdata(x) for x in pair]
    if min(float(np.ptp(x)) for x in pair) == 0:
        return None
    x, y = ((v - v.mean()) / v.std() for v in pair)
    n = len(x)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), N_BOOTSTRAPS) / n
    products = np.stack([x, y, x * x, y * y, x * y], axis=1)
    mean_x, mean_y, xx, yy, xy = (weights @ products).T
    spread = np.sqrt(np.maximum((xx - mean_x**2) * (yy - mean_y**2), np.finfo(float).tiny))
    return Result(float((x * y).mean()), float(((xy - mean_x * mean_y) / spread).std(ddof=1)), n=n)


def _distance(found: Result | None, reference: Result) -> Found:
    """Return a correlation and its distance from the reference's, in the variable of Fisher (1921).

    In atanh of a correlation errors are even; they are propagated to it.
    """
    if found is None:
        return Found(None, None, LARGEST)
    edge = 1 - 1e-12
    ends = [max(min(r.value, edge), -edge) for r in (found, reference)]
    spread = math.hypot(*(r.error / (1 - end**2) for r, end in zip((found, reference), ends, strict=True)))
    difference = math.atanh(ends[0]) - math.atanh(ends[1])
    sigma = either_way(difference / spread) if spread > 0 else LARGEST * (difference != 0)
    return Found(found.value, found.error, sigma)


def response_calibration(reference: Summary, generated: Summary, edges: FloatArray) -> Found:
    """Compare the mean of E_tot / E_inc in bins of incident energy.

    The pull of each bin is the difference over its error, brought from Student's t with the bin's
    showers to a normal variable.

    Returns:
        Chi² over the number of bins with its standard deviation between equal samples and its distance; in
        ``parts`` the pulls of the bins that count, called by their middles.
    """
    ratios, places = zip(
        *((response(s), np.searchsorted(edges, s.incident_energy, side="right") - 1) for s in (reference, generated)),
        strict=True,
    )
    middles = np.sqrt(edges[1:] * edges[:-1])
    energies, pulls = [], []
    for i, energy in enumerate(middles):
        x, y = (ratio[place == i] for ratio, place in zip(ratios, places, strict=True))
        if min(len(x), len(y)) < FEWEST:
            continue
        error = math.hypot(x.std(ddof=1) / math.sqrt(len(x)), y.std(ddof=1) / math.sqrt(len(y)))
        difference = float(y.mean() - x.mean())
        pull = difference / error if error > 0 else math.copysign(LARGEST, difference) if difference else 0.0
        chance = t.sf(abs(pull), min(len(x), len(y)) - 1)
        energies.append(float(energy))
        pulls.append(math.copysign(float(np.clip(norm.isf(chance), 0.0, LARGEST)), pull))
    if not pulls:
        return Found(0.0, 0.0, 0.0)
    total = float(np.square(pulls).sum())
    worst = int(np.argmax(np.abs(pulls)))
    where = tuple(f"{energy / 1000:.3g} GeV" for energy in energies)
    return Found(
        total / len(pulls),
        math.sqrt(2 / len(pulls)),
        float(np.clip(norm.isf(chi2.sf(total, len(pulls))), -LARGEST, LARGEST)),
        ending=f" at {where[worst]}",
        parts=Parts(what="energies", where=where, value=tuple(pulls)),
        freedom=len(pulls),
    )
