"""Physics figures of a sample: response, resolution, shower maximum, longitudinal shape, containment."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import curve_fit, nnls
from scipy.special import gammaln
from scipy.stats import f as f_distribution
from scipy.stats import norm

from caloforge.geometry import Geometry
from caloforge.validation.metrics.result import Result
from caloforge.validation.observables.histogram import FEWEST
from caloforge.validation.observables.summary import EPSILON, Summary
from caloforge.validation.registries import FIGURES
from caloforge.validation.significance import LARGEST, worst_of

FloatArray = NDArray[np.float64]

N_BOOTSTRAPS = 60
N_GROUPS = 10


@dataclass(frozen=True)
class Figures:
    """The figures of a sample, NaN where the geometry or the energies do not define one.

    Attributes:
        value: by name.
        error: standard deviation over bootstrap samples of the showers.
    """

    value: Mapping[str, float]
    error: Mapping[str, float]


@dataclass(frozen=True)
class _Sums:
    """Weighted sums over showers that all figures are made of; B energy bins, L layers, R rings."""

    n: FloatArray  # (B,) showers
    response: FloatArray  # (B,) mean E_tot / E_inc
    square: FloatArray  # (B,) its mean square
    inverse: FloatArray  # (B,) mean 1 / E_inc, 1/GeV
    inverse_square: FloatArray  # (B,)
    log: FloatArray  # (B,) mean ln(E_inc / GeV)
    profile: FloatArray  # (B, L) mean share of each layer
    rings: FloatArray  # (R,) energy
    r_edges: FloatArray
    has_depth: bool

    @property
    def resolution(self) -> FloatArray:
        spread = np.sqrt(np.maximum(self.square - self.response**2, 0))
        result: FloatArray = spread / np.maximum(self.response, EPSILON)
        return result

    @cached_property
    def terms(self) -> tuple[float, float, float]:
        return resolution_terms(self)

    @cached_property
    def maximum(self) -> tuple[float, float]:
        return shower_maximum(self)

    @cached_property
    def shape(self) -> tuple[float, float]:
        return gamma_shape(self)


def mean_response(sums: _Sums) -> float:
    """Return the mean of E_tot / E_inc over all showers."""
    return float((sums.n @ sums.response) / sums.n.sum())


def response_slope(sums: _Sums) -> float:
    """Return the change of the mean response with each decade of E_inc: 0 for a linear detector."""
    return _line(sums.log, sums.response, sums.n)[1] * math.log(10)


def mean_resolution(sums: _Sums) -> float:
    """Return the mean over energy bins of the relative width of the response."""
    return float(sums.resolution.mean())


def resolution_terms(sums: _Sums) -> tuple[float, float, float]:
    """Fit sigma/E = a/sqrt(E) (+) b/E (+) c, E in GeV; return a, b and c, none negative.

    The squares are linear in 1/E, 1/E^2 and 1, whose means in each bin enter, so that wide bins do
    no harm.
    """
    if len(sums.n) < 4:
        return (math.nan,) * 3
    square = sums.resolution**2
    weight = np.sqrt(np.maximum(sums.n - 1, 1) / 2) / np.maximum(square, 1e-12)
    design = np.stack([sums.inverse, sums.inverse_square, np.ones_like(square)], axis=1)
    scale = design.max(axis=0)
    found, _ = nnls(design / scale * weight[:, None], square * weight)
    a, b, c = np.sqrt(found / scale).tolist()
    return a, b, c


def shower_maximum(sums: _Sums) -> tuple[float, float]:
    """Fit the layer of the mean profile's maximum against ln E_inc; return value at the mean and slope."""
    if not sums.has_depth:
        return math.nan, math.nan
    return _line(sums.log, maxima(sums.profile), sums.n)


def maxima(profile: FloatArray) -> FloatArray:
    """Return where (B, L) profiles are highest, by the parabola through three layers."""
    peak = np.clip(profile.argmax(axis=1), 1, profile.shape[1] - 2)
    rows = np.arange(len(profile))
    low, high, beyond = (profile[rows, peak + i] for i in (-1, 0, 1))
    bend = low - 2 * high + beyond
    shift = np.where(bend < 0, (low - beyond) / (2 * np.where(bend < 0, bend, 1)), 0.0)
    result: FloatArray = peak + np.clip(shift, -1, 1)
    return result


def gamma_shape(sums: _Sums) -> tuple[float, float]:
    """Fit the mean profile by t^(alpha - 1) exp(-beta t), t in layers (Longo and Sestili 1975)."""
    profile = sums.n @ sums.profile / sums.n.sum()
    if not sums.has_depth or len(profile) < 4 or profile.sum() <= 0:
        return math.nan, math.nan
    t = np.arange(len(profile)) + 0.5
    mean = profile @ t / profile.sum()
    variance = max(float(profile @ (t - mean) ** 2 / profile.sum()), 1e-3)
    start = np.log([mean**2 / variance, mean / variance])
    try:
        found, _ = curve_fit(_gamma, t, profile / profile.sum(), p0=start)
    except RuntimeError:  # no such shape
        return math.nan, math.nan
    return float(np.exp(found[0])), float(np.exp(found[1]))


def _gamma(t: FloatArray, log_alpha: float, log_beta: float) -> FloatArray:
    """Return the gamma distribution; of logarithms, so that no step of the fit leaves its domain."""
    alpha, beta = np.exp(np.clip([log_alpha, log_beta], -20, 10))
    result: FloatArray = np.exp(alpha * np.log(beta) + (alpha - 1) * np.log(t) - beta * t - gammaln(alpha))
    return result


def _line(x: FloatArray, y: FloatArray, weight: FloatArray) -> tuple[float, float]:
    """Return the weighted straight line's value at the mean of x, and its slope (NaN with one x)."""
    middle = float(weight @ x / weight.sum())
    spread = float(weight @ (x - middle) ** 2)
    slope = float(weight @ ((x - middle) * y) / spread) if spread > 1e-9 * weight.sum() else math.nan
    return float(weight @ y / weight.sum()), slope


def containment(sums: _Sums, fraction: float) -> float:
    """Return the radius in mm that holds a fraction of the mean energy; even in area within a ring. NaN without rings."""
    if not len(sums.rings):
        return math.nan
    inside = np.concatenate([[0.0], np.cumsum(sums.rings)]) / max(sums.rings.sum(), EPSILON)
    return float(np.sqrt(np.interp(fraction, inside, sums.r_edges**2)))


@dataclass(frozen=True)
class Figure:
    """A number that a physicist quotes of a calorimeter.

    Attributes:
        title: what it is called in tables.
        unit: its unit, empty for a pure number.
        function: takes the sums to the number.
        tested: whether it counts in the verdict; terms that stick at 0 have no normal errors.
    """

    title: str
    unit: str
    function: Callable[[_Sums], float]
    tested: bool = True


MEAN_RESPONSE = Figure("Mean response", "", mean_response)
RESPONSE_SLOPE = Figure("Response, change for each decade of energy", "", response_slope)
MEAN_RESOLUTION = Figure("Mean resolution", "", mean_resolution)
STOCHASTIC_TERM = Figure("Resolution: stochastic term a", "GeV^½", lambda s: s.terms[0], tested=False)
NOISE_TERM = Figure("Resolution: noise term b", "GeV", lambda s: s.terms[1], tested=False)
CONSTANT_TERM = Figure("Resolution: constant term c", "", lambda s: s.terms[2], tested=False)
SHOWER_MAXIMUM = Figure("Shower maximum at the mean ln E", "layers", lambda s: s.maximum[0])
SHOWER_MAXIMUM_SLOPE = Figure("Shower maximum, change with ln E", "layers", lambda s: s.maximum[1])
GAMMA_ALPHA = Figure("Longitudinal shape alpha", "", lambda s: s.shape[0])
GAMMA_BETA = Figure("Longitudinal shape beta", "1/layer", lambda s: s.shape[1])
R90 = Figure("Radius of 90 % of the energy", "mm", lambda s: containment(s, 0.9))
R95 = Figure("Radius of 95 % of the energy", "mm", lambda s: containment(s, 0.95))


def figures(summary: Summary, edges: FloatArray, *, seed: int) -> Figures:
    """Return the figures of a sample.

    Args:
        summary: the sample.
        edges: of the bins of incident energy, MeV; the reference's for all samples.
        seed: of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    n = len(summary)
    columns = _Columns.of(summary, edges)
    value = _all(columns.sums(np.ones(n)))
    samples = [
        _all(columns.sums(rng.multinomial(n, np.full(n, 1 / n)).astype(np.float64))) for _ in range(N_BOOTSTRAPS)
    ]
    error = {name: float(np.std([sample[name] for sample in samples], ddof=1)) for name in value}
    return Figures(value, error)


def _all(sums: _Sums) -> dict[str, float]:
    if len(sums.n) == 0 or not (sums.response > 0).any():
        return dict.fromkeys(FIGURES, math.nan)
    return {name: figure.function(sums) for name, figure in FIGURES.items()}


def has_depth(geometry: Geometry) -> bool:
    """Return whether the index of a layer measures depth: for three or more layers that are alike."""
    return geometry.is_regular and geometry.n_layers > 2


def maxima_in_bins(summary: Summary, where: FloatArray, edges: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the layer of the mean profile's maximum in each bin of ``where``, and its bootstrap error.

    NaN in a bin of fewer than 10 showers.
    """
    rng = np.random.default_rng(0)
    shares = summary.layer_energy / (summary.total_energy + EPSILON)[:, None]
    place = np.searchsorted(edges, where, side="right") - 1
    value, error = np.full((2, len(edges) - 1), np.nan)
    for i in range(len(edges) - 1):
        inside = shares[place == i]
        if len(inside) >= FEWEST:
            value[i] = maxima(inside.mean(axis=0)[None])[0]
            rows = rng.integers(len(inside), size=(N_BOOTSTRAPS, len(inside)))
            weights = np.stack([np.bincount(row, minlength=len(inside)) for row in rows]) / len(inside)
            error[i] = maxima(weights @ inside).std()
    return value, error


@dataclass(frozen=True)
class _Columns:
    """What a bootstrap weighs: sums over showers are one product with the weights."""

    bins: FloatArray  # (B, N) 1 where a shower lies in an energy bin
    scalars: FloatArray  # (N, 5) response, its square, 1/E, 1/E^2, ln E; GeV
    shares: FloatArray  # (N, L)
    rings: FloatArray  # (N, R)
    r_edges: FloatArray
    has_depth: bool

    @classmethod
    def of(cls, summary: Summary, edges: FloatArray) -> Self:
        energy, total = summary.incident_energy / 1000, summary.total_energy
        place = np.searchsorted(edges, summary.incident_energy, side="right") - 1
        bins = np.stack([place == i for i in range(len(edges) - 1)]).astype(np.float64)
        response = total / summary.incident_energy
        return cls(
            bins=bins[bins.sum(axis=1) >= FEWEST],
            scalars=np.stack([response, response**2, 1 / energy, 1 / energy**2, np.log(energy)], axis=1),
            shares=summary.layer_energy / (total + EPSILON)[:, None],
            rings=summary.ring_energy,
            r_edges=np.empty(0) if summary.lateral is None else summary.lateral.edges,
            has_depth=has_depth(summary.geometry),
        )

    def sums(self, weights: FloatArray) -> _Sums:
        weighted = self.bins * weights
        n = weighted.sum(axis=1)
        weighted = weighted[n > 0] / n[n > 0, None]
        response, square, inverse, inverse_square, log = (weighted @ self.scalars).T
        return _Sums(
            n[n > 0], response, square, inverse, inverse_square, log,
            profile=weighted @ self.shares, rings=weights @ self.rings, r_edges=self.r_edges,
            has_depth=self.has_depth,
        )  # fmt: skip


def layer_correlation(summary: Summary) -> FloatArray:
    """Return the correlation matrix of the layer energies, (L, L); 0 for a layer that never varies."""
    return _correlation(summary.layer_energy)


def _correlation(x: FloatArray) -> FloatArray:
    centred = x - x.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    centred /= np.where(norm > 0, norm, 1)
    result: FloatArray = centred.T @ centred
    return result


def correlation_difference(reference: Summary, generated: Summary) -> Result:
    """Return the root mean square difference of the correlations between layers.

    The error is the jackknife's over ten groups of showers, left out of both samples.
    """
    pair = [summary.layer_energy for summary in (reference, generated)]
    n_layers = pair[0].shape[1]
    if n_layers < 2:
        return Result(0.0, 0.0, n=len(reference))
    above = np.triu_indices(n_layers, 1)

    def distance(x: FloatArray, y: FloatArray) -> float:
        return float(np.sqrt(((_correlation(x) - _correlation(y))[above] ** 2).mean()))

    left = [
        distance(*(np.delete(energy, np.s_[group::N_GROUPS], axis=0) for energy in pair)) for group in range(N_GROUPS)
    ]
    error = math.sqrt((N_GROUPS - 1) * float(np.var(left)))
    return Result(distance(*pair), error, n=len(reference))


def repeated_showers(summary: Summary) -> Result:
    """Return the share of showers that repeat an earlier one, up to their energy.

    Two showers are the same if the shares of all layers agree to five digits and as many voxels
    have energy; showers with less than two layers do not count. The error is a binomial one of at
    least one shower.
    """
    shares = np.round(summary.layer_energy / (summary.total_energy + EPSILON)[:, None], 5)
    several = (summary.layer_hits > 0).sum(axis=1) > 1
    prints = np.hstack([shares, summary.layer_hits])[several]
    repeated = (len(prints) - len(np.unique(prints, axis=0))) / len(summary)
    chance = max(repeated, 1 / len(summary))
    return Result(repeated, math.sqrt(chance * (1 - chance) / len(summary)), n=len(summary))


@dataclass(frozen=True)
class ProfileShift:
    """By how much the mean energies of the layers differ, at given incident energy.

    Attributes:
        value: root mean square over layers of the difference over the standard deviation of showers.
        error: what it is expected to be between equal samples.
        sigma: how improbable the differences of all layers together are between equal samples.
        layer: the one that differs most from what the other layers make expect.
    """

    value: float
    error: float
    sigma: float
    layer: int


def profile_shift(reference: Summary, generated: Summary) -> ProfileShift:
    """Compare the mean longitudinal profiles with the test of Hotelling (1931).

    The test knows the correlations between layers: showers fluctuate in depth, but hardly in one
    layer alone. It looks at the root of E_layer / E_inc, which is less skewed, after a parabola in
    ln E, fitted to the reference, is taken off both samples, so that what depends on the energy
    does not blur the comparison. It is made twice, with showers that count equally and that count
    by their energy, whose layers fluctuate less, and the clearer result is taken, corrected for that.
    """
    pair = [(np.sqrt(s.layer_energy / s.incident_energy[:, None]), s.incident_energy) for s in (reference, generated)]
    shifts = [_hotelling(pair, [energy**power for _, energy in pair]) for power in (0, 1)]
    best = max(shifts, key=lambda shift: shift.sigma)
    return replace(best, sigma=worst_of([shift.sigma for shift in shifts]))


def _hotelling(pair: Sequence[tuple[FloatArray, FloatArray]], weights: Sequence[FloatArray]) -> ProfileShift:
    """Compare two pairs of (N, L) roots and (N,) incident energies whose showers have weights."""
    logs = [np.log(energy) for _, energy in pair]
    middle, width = logs[0].mean(), logs[0].std() or 1.0
    designs = [np.vander((x - middle) / width, 3) for x in logs]
    root = np.sqrt(weights[0])[:, None]
    fit = np.linalg.lstsq(designs[0] * root, pair[0][0] * root, rcond=None)[0]
    left = [values - design @ fit for (values, _), design in zip(pair, designs, strict=True)]
    shares = [weight / weight.sum() for weight in weights]
    means = [share @ x for share, x in zip(shares, left, strict=True)]
    left = [x - mean for x, mean in zip(left, means, strict=True)]
    spread = np.sqrt(sum(share @ x**2 for share, x in zip(shares, left, strict=True)) / 2)
    varies = np.flatnonzero(spread > 1e-9)
    # A weighted mean is as certain as a plain one of so many showers.
    sizes = [float(1 / (share @ share)) for share in shares]
    p, freedom = len(varies), sum(sizes) - 1 - len(varies)
    if p == 0 or freedom < 2 * p:
        return ProfileShift(0.0, 0.0, 0.0, 0)
    scaled = [share[:, None] * x[:, varies] / spread[varies] for share, x in zip(shares, left, strict=True)]
    covariance = sum(x.T @ x for x in scaled)  # of the difference of the means
    difference = (means[1] - means[0])[varies] / spread[varies]
    inverse = np.linalg.pinv(covariance, rcond=1e-10, hermitian=True)
    pull = inverse @ difference
    t_squared = float(difference @ pull)
    chance = f_distribution.sf(t_squared * freedom / ((sum(sizes) - 2) * p), p, freedom)
    return ProfileShift(
        value=float(np.sqrt((difference**2).mean())),
        error=math.sqrt(sum(1 / size for size in sizes)),
        sigma=float(np.clip(norm.isf(chance), -LARGEST, LARGEST)),
        layer=int(varies[np.argmax(np.abs(pull) / np.sqrt(np.maximum(np.diag(inverse), EPSILON)))]),
    )
