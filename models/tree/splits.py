"""How one node is split in two: how many of its hits, and how much of its energy, go to the first half.

A node with capacity c (cells), n hits and energy E >= n t (t the threshold) has halves L and R. First
the hits of L are drawn, max(0, n - c_R) <= n_L <= min(n, c_L); then, if both halves have hits, the
share of the *free* energy E - n t that goes to L. So no hit is ever below the threshold, a half without
hits has no energy, and hits and energy add up to those of the node.

Each distribution has a ``log_prob`` and a ``draw`` that inverts its cumulative distribution at a given
uniform number: a shower is a fixed function of its noise. All functions act on rows, one per split.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_FREE = 1e-7
"""MeV, least free energy of a half with hits: float32 rounds hits at the threshold to either side of it."""

MAX_LOGIT = 16.0
"""Shares are kept within sigmoid(+-16), about 1e-7 of the free energy."""

# erfc(x) = t exp(-x^2 + P(t)), t = 1 / (1 + x/2), of relative error below 1.2e-7 for x >= 0: Press et al.,
# Numerical Recipes, 2nd edition, section 6.2 (erfcc). Only elementary operations, so that PyTorch and
# ONNX Runtime get the same number, in the tails too.
_ERFC = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806,
    0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277,
)  # fmt: skip


def uniform(z: Tensor) -> Tensor:
    """Return Phi(z), uniform in (0, 1) for standard normal z; relative error below 1e-5 in the lower tail too."""
    x = z.abs() * (0.5**0.5)
    t = 1 / (1 + 0.5 * x)
    series = t * _ERFC[-1] + _ERFC[-2]
    for coefficient in reversed(_ERFC[:-2]):
        series = series * t + coefficient
    tail = 0.5 * t * torch.exp(series - x * x)
    return torch.where(z < 0, tail, 1 - tail).clamp(1e-12, 1 - 6e-8)


def logistic(x: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-x)).

    torch.sigmoid rounds differently at the end of a tensor than in its middle: a shower would depend on
    the batch that it is in.
    """
    return 1 / (1 + torch.exp(-x))


# --- hits: few cells -------------------------------------------------------------------------------


def hypergeometric_prior(first: Tensor, second: Tensor, classes: int) -> Tensor:
    """Return log C(c_L, k) + log C(c_R, n - k), the log of the number of ways to place the hits.

    With it an untrained network puts hits on the cells at random.

    Args:
        first: (P,) capacities c_L.
        second: (P,) capacities c_R.
        classes: number of values of k = n_L, from 0.

    Returns:
        (P, n_max + 1, classes) float32 with n_max = max(c_L + c_R); -inf where k is impossible.
    """
    n_max = int((first + second).max())
    n = torch.arange(n_max + 1)[None, :, None]
    k = torch.arange(classes)[None, None]
    return (_log_binomial(first[:, None, None], k) + _log_binomial(second[:, None, None], n - k)).float()


def _log_binomial(c: Tensor, k: Tensor) -> Tensor:
    inside = (k >= 0) & (k <= c)
    c, k = (c + 0 * k).double(), (k + 0 * c).double()
    safe = torch.where(inside, k, torch.zeros_like(k))
    value = torch.lgamma(c + 1) - torch.lgamma(safe + 1) - torch.lgamma(c - safe + 1)
    return torch.where(inside, value, torch.full_like(value, -torch.inf))


def few_log_prob(logits: Tensor, prior: Tensor, hits: Tensor) -> Tensor:
    """Return log P(n_L) of a softmax over all counts.

    Args:
        logits: (R, classes), from the network.
        prior: (R, classes), of :func:`hypergeometric_prior`.
        hits: (R,) n_L.
    """
    log_p = F.log_softmax(logits + prior, 1)
    return log_p.gather(1, hits.long()[:, None])[:, 0]


def few_draw(logits: Tensor, prior: Tensor, u: Tensor) -> Tensor:
    """Return the n_L, (R,) float, whose cumulative probability first reaches u (R,)."""
    weight = torch.exp(_shifted(logits + prior))
    cumulative = torch.cumsum(weight, 1)
    below = (cumulative < u[:, None] * cumulative[:, -1:]).to(logits.dtype)
    # Classes after the last possible one repeat its cumulative probability: they are never reached.
    return below.sum(1)


def _shifted(logits: Tensor) -> Tensor:
    return logits - logits.amax(1, keepdim=True)


# --- hits: many cells ------------------------------------------------------------------------------


def many_log_prob(numbers: Tensor, low: Tensor, high: Tensor, hits: Tensor) -> Tensor:
    """Return log P(n_L) for low <= n_L <= high: a gate for 0, else K logistics in sqrt(n_L), cut to whole numbers.

    P(0) = sigmoid(g) where 0 is possible, and for k >= 1, with F the logistic function,
    P(k | k >= 1) = sum_j pi_j [F((sqrt(k + 1/2) - m_j) / s_j) - F((sqrt(k - 1/2) - m_j) / s_j)] / [the same
    from the first to the last possible k]. The root makes the width of a Poisson number constant.

    Args:
        numbers: (R, 1 + 3 K): g, then logits, centres and log-widths, as from the network.
        low: (R,) least possible hits.
        high: (R,) most possible hits.
        hits: (R,) n_L, float.
    """
    log_weight, centre, width, gate = _roots(numbers, high)
    first = low.clamp_min(1.0)
    upper, lower = _edges(hits.clamp_min(1.0))
    top, bottom = _edges(high)[0], _edges(first)[1]
    log_p = torch.logsumexp(
        log_weight
        + log_difference(_scaled(upper, centre, width), _scaled(lower, centre, width))
        - log_difference(_scaled(top, centre, width), _scaled(bottom, centre, width)),
        1,
    )
    # high is 0 where there are no hits: then the count is certain.
    open_gate = (low < 0.5) & (high > 0.5)
    log_some = torch.where(open_gate, F.logsigmoid(-gate), torch.zeros_like(gate))
    log_none = torch.where(open_gate, F.logsigmoid(gate), torch.zeros_like(gate))
    return torch.where(hits < 0.5, log_none, log_some + torch.where(high > 0.5, log_p, torch.zeros_like(log_p)))


def many_draw(numbers: Tensor, low: Tensor, high: Tensor, u: Tensor) -> Tensor:
    """Return n_L, (R,) float, of the distribution of :func:`many_log_prob` at a uniform number u (R,).

    u decides on the gate first; what it has left over chooses the component and the place in it.
    """
    log_weight, centre, width, gate = _roots(numbers, high)
    p_none = torch.where(low < 0.5, logistic(gate), torch.zeros_like(gate))
    none = (u < p_none) | (high < 0.5)
    v = ((u - p_none) / (1 - p_none).clamp_min(1e-6)).clamp(0, 1)
    j, v = choose(log_weight, v)
    centre, width = (x.gather(1, j)[:, 0] for x in (centre, width))
    first = low.clamp_min(1.0)
    a = logistic((_edges(first)[1] - centre) / width)
    b = logistic((_edges(high.clamp_min(1.0))[0] - centre) / width)
    root = centre + width * torch.logit((a + v * (b - a)).clamp(1e-7, 1 - 1e-7))
    hits = torch.round(root.clamp_min(0.0) ** 2)
    hits = torch.minimum(torch.maximum(hits, first), high)
    return torch.where(none, torch.zeros_like(hits), hits)


def _roots(numbers: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    gate, rest = numbers[:, 0], numbers[:, 1:]
    logits, centre, width = rest.chunk(3, 1)
    centre = 1.05 * torch.sqrt(high[:, None] + 1) * logistic(centre)
    return torch.log_softmax(logits, 1), centre, 0.02 + 0.25 * torch.exp(width.clamp(-5, 3)), gate


def _edges(k: Tensor) -> tuple[Tensor, Tensor]:
    """Return the upper and lower edge of whole numbers k >= 1 on the axis of roots."""
    return torch.sqrt(k + 0.5), torch.sqrt((k - 0.5).clamp_min(0.0))


def _scaled(edge: Tensor, centre: Tensor, width: Tensor) -> Tensor:
    return (edge[:, None] - centre) / width


def log_difference(a: Tensor, b: Tensor) -> Tensor:
    """Return log [F(a) - F(b)] of logistic functions, a > b: log F(a) + log F(-b) + log(1 - exp(b - a))."""
    return F.logsigmoid(a) + F.logsigmoid(-b) + torch.log(-torch.expm1((b - a).clamp_max(-1e-6)))


# --- energies --------------------------------------------------------------------------------------


def share_of(energy: Tensor, hits: Tensor, first: Tensor, first_hits: Tensor, threshold: float) -> Tensor:
    """Return y = log of the ratio of the free energies of L and R.

    Args:
        energy: (R,) MeV of the node.
        hits: (R,) of the node.
        first: (R,) MeV of L.
        first_hits: (R,) of L.
        threshold: MeV.
    """
    left = (first - first_hits * threshold).clamp_min(MIN_FREE)
    right = ((energy - first) - (hits - first_hits) * threshold).clamp_min(MIN_FREE)
    return (torch.log(left) - torch.log(right)).clamp(-MAX_LOGIT, MAX_LOGIT)


def divide(energy: Tensor, hits: Tensor, first_hits: Tensor, y: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the energies of L and R in MeV; all of it goes to one half if the other has no hits."""
    left, right = share_out(energy, hits, first_hits, y, threshold)
    none, all_hits, zero = first_hits < 0.5, hits - first_hits < 0.5, torch.zeros_like(energy)
    left = torch.where(none, zero, torch.where(all_hits, energy, left))
    return left, torch.where(all_hits, zero, torch.where(none, energy, right))


def share_out(energy: Tensor, hits: Tensor, first_hits: Tensor, y: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the energies of L and R in MeV, both with hits: E_L = n_L t + E_free sigmoid(y), E_R likewise with -y."""
    free = (energy - hits * threshold).clamp_min(0.0)
    left = first_hits * threshold + free * logistic(y)
    return left, (hits - first_hits) * threshold + free * logistic(-y)


def log_slope(energy: Tensor, hits: Tensor, first: Tensor, first_hits: Tensor, threshold: float) -> Tensor:
    """Return log dy/dE_L, which turns a density of y into one of MeV."""
    left = (first - first_hits * threshold).clamp_min(MIN_FREE)
    right = ((energy - first) - (hits - first_hits) * threshold).clamp_min(MIN_FREE)
    return torch.log(left + right) - torch.log(left) - torch.log(right)


def anchored(energy: Tensor, hits: Tensor, first_hits: Tensor, anchors: Tensor, threshold: float) -> Tensor:
    """Return y at which each hit of L has the energy v of an anchor, then where each hit of R has; (R, 2 A).

    y = logit(n_L (v - t) / E_free), and likewise for R. Components of the mixture that stand there keep
    the peaks and edges of the hit spectrum sharp, which a network alone would smear.

    Args:
        energy: (R,) MeV of the node.
        hits: (R,) of the node.
        first_hits: (R,) of L.
        anchors: (A,) MeV.
        threshold: MeV.
    """
    free = (energy - hits * threshold).clamp_min(MIN_FREE)[:, None]
    above = anchors[None] - threshold
    left = _bounded_logit(first_hits[:, None] * above / free)
    right = -_bounded_logit((hits - first_hits)[:, None] * above / free)
    return torch.cat([left, right], 1)


def _bounded_logit(share: Tensor) -> Tensor:
    share = share.clamp(1e-3, 1 - 1e-3)
    return torch.log(share) - torch.log1p(-share)


def share_log_prob(numbers: Tensor, offsets: Tensor, y: Tensor) -> Tensor:
    """Return log p(y) of a mixture of K logistics.

    log p = logsumexp_j [log pi_j - z_j - log s_j - 2 softplus(-z_j)], z_j = (y - offset_j - m_j) / s_j.

    Args:
        numbers: (R, 3 K): logits, centres and log-widths, as from the network.
        offsets: (R, K) where the components stand before the network moves them.
        y: (R,).
    """
    logits, centre, width = numbers.chunk(3, 1)
    width = width.clamp(-6, 4)
    z = (y[:, None] - offsets - centre) * torch.exp(-width)
    return torch.logsumexp(torch.log_softmax(logits, 1) - z - width - 2 * F.softplus(-z), 1)


def share_draw(numbers: Tensor, offsets: Tensor, u: Tensor) -> Tensor:
    """Return y, (R,), of the mixture at a uniform number: it chooses the component, then the place in it."""
    logits, centre, width = numbers.chunk(3, 1)
    j, v = choose(logits, u)
    place, width = ((x.gather(1, j))[:, 0] for x in (offsets + centre, width))
    v = v.clamp(1e-7, 1 - 1e-7)
    y = place + torch.exp(width.clamp(-6, 4)) * (torch.log(v) - torch.log1p(-v))
    return y.clamp(-MAX_LOGIT, MAX_LOGIT)


def choose(logits: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Choose a component with a uniform number.

    Args:
        logits: (R, K).
        u: (R,).

    Returns:
        Its index (R, 1), and where u stands between its cumulative probabilities: uniform again, (R,).
    """
    weight = torch.exp(_shifted(logits))
    cumulative = torch.cumsum(weight, 1)
    target = u[:, None] * cumulative[:, -1:]
    j = (cumulative < target).to(torch.int64).sum(1, keepdim=True).clamp_max(weight.shape[1] - 1)
    chosen = weight.gather(1, j)
    v = (target - (cumulative.gather(1, j) - chosen)) / chosen.clamp_min(1e-12)
    return j, v[:, 0].clamp(0, 1)
