"""Distributions of one split: they add up to 1, and what is drawn follows them.

Draws are checked with evenly spaced uniform numbers: each value must come as often as its probability
says, to within one of the n numbers at each of its edges.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from scipy.stats import hypergeom
from torch import Tensor

from caloforge.models.tree import splits

THRESHOLD = 0.5
N = 20_000
EVEN = (torch.arange(N) + 0.5) / N


def test_uniform_is_the_normal_distribution_function() -> None:
    z = torch.linspace(-6.5, 5, 4001)
    expected = ndtr(z.double().numpy())
    assert np.abs(splits.uniform(z).numpy() / expected - 1).max() < 1e-5  # the rounding of z^2 / 2 in float32
    assert splits.uniform(torch.tensor([-40.0, 40.0])).tolist() == pytest.approx([1e-12, 1], abs=1e-7)


def test_the_prior_places_hits_at_random() -> None:
    first, second = torch.tensor([3, 8, 1]), torch.tensor([5, 8, 2])
    prior = splits.hypergeometric_prior(first, second, 9)
    for row, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        for n in range(a + b + 1):
            log_p = splits.few_log_prob(torch.zeros(9, 9), prior[row, n].expand(9, -1), torch.arange(9))
            assert log_p.exp().numpy() == pytest.approx(hypergeom.pmf(np.arange(9), a + b, a, n), abs=1e-6)


@pytest.mark.parametrize(("first", "second", "n"), [(8, 8, 5), (3, 2, 4), (1, 1, 1), (5, 5, 10), (2, 40, 41)])
def test_few_counts(first: int, second: int, n: int) -> None:
    logits = torch.randn(9, generator=torch.Generator().manual_seed(0))
    prior = splits.hypergeometric_prior(torch.tensor([first]), torch.tensor([second]), 9)[0, n]
    p = splits.few_log_prob(logits.expand(9, -1), prior.expand(9, -1), torch.arange(9)).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-6)
    possible = (torch.arange(9) >= max(0, n - second)) & (torch.arange(9) <= min(n, first))
    assert ((p > 0) == possible).all()
    drawn = splits.few_draw(logits.expand(N, -1), prior.expand(N, -1), EVEN)
    counts = torch.bincount(drawn.long(), minlength=9)
    assert (counts - N * p).abs().max() < 2
    ends = splits.few_draw(logits.expand(2, -1), prior.expand(2, -1), torch.tensor([1e-12, 1 - 6e-8]))
    assert possible[ends.long()].all()


@pytest.mark.parametrize(("low", "high"), [(0, 144), (0, 1), (0, 0), (3, 9), (7, 7), (0, 2)])
def test_many_counts(low: int, high: int) -> None:
    numbers = torch.randn(13, generator=torch.Generator().manual_seed(1))
    k = torch.arange(low, high + 1).float()
    rows = numbers.expand(len(k), -1)
    p = splits.many_log_prob(rows, torch.full_like(k, low), torch.full_like(k, high), k).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-4)
    bounds = torch.full((N,), float(low)), torch.full((N,), float(high))
    drawn = splits.many_draw(numbers.expand(N, -1), *bounds, EVEN)
    assert drawn.min() >= low
    assert drawn.max() <= high
    counts = torch.bincount((drawn - low).long(), minlength=len(k))
    # Four components, each with its own edges.
    assert (counts - N * p).abs().max() < 6


def mixture(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(24, generator=generator)
    numbers[16:] = 0.5 * numbers[16:] - 1  # narrow enough to be inside the bounds of y
    return numbers, 2 * torch.randn(8, generator=generator)


@pytest.mark.parametrize("seed", range(3))
def test_shares(seed: int) -> None:
    numbers, offsets = mixture(seed)
    y = torch.linspace(-40, 40, 40_001)
    density = splits.share_log_prob(numbers.expand(len(y), -1), offsets.expand(len(y), -1), y).exp().double()
    steps = 0.5 * (density[1:] + density[:-1]) * y.double().diff()
    assert float(steps.sum()) == pytest.approx(1, abs=1e-4)
    drawn = splits.share_draw(numbers.expand(N, -1), offsets.expand(N, -1), EVEN).sort().values
    expected = np.interp(drawn.numpy(), y[1:].numpy(), steps.cumsum(0).numpy())
    # The distance of Kolmogorov and Smirnov; a component takes an interval of the uniform numbers.
    assert np.abs(expected - EVEN.numpy()).max() < 20 / N


def test_energies_add_up_and_zeros_are_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    n = torch.randint(1, 12, (5000,), generator=generator).float()
    k = torch.floor((n + 1) * torch.rand(5000, generator=generator))
    energy = n * THRESHOLD + 10 * torch.randn(5000, generator=generator).exp()
    y = torch.randn(5000, generator=generator) * 6
    left, right = splits.divide(energy, n, k, y, THRESHOLD)
    assert ((left + right) / energy - 1).abs().max() < 3e-7
    assert ((left == 0) == (k == 0)).all()
    assert ((right == 0) == (k == n)).all()
    assert (left >= k * THRESHOLD * (1 - 1e-6)).all()
    assert (right >= (n - k) * THRESHOLD * (1 - 1e-6)).all()
    inner = (k > 0) & (k < n) & (y.abs() < 6)
    again = splits.share_of(energy[inner], n[inner], left[inner], k[inner], THRESHOLD)
    assert (again - y[inner]).abs().max() < 0.05  # energies in float32 know small shares no better
    assert (again - y[inner]).abs().median() < 1e-5


def test_slope_is_the_derivative_of_the_share() -> None:
    energy, n, k = (torch.tensor([x], dtype=torch.float64) for x in (20.0, 9.0, 4.0))
    first = torch.tensor([7.0], dtype=torch.float64, requires_grad=True)
    splits.share_of(energy, n, first, k, THRESHOLD).sum().backward()
    slope = splits.log_slope(energy, n, first.detach(), k, THRESHOLD).exp()
    assert float(first.grad) == pytest.approx(float(slope))


def test_at_an_anchor_each_hit_has_its_energy() -> None:
    energy, n, k, anchors = torch.tensor([40.0]), torch.tensor([10.0]), torch.tensor([4.0]), torch.tensor([3.0, 5.0])
    y = splits.anchored(energy, n, k, anchors, THRESHOLD)[0]
    for place, (hits, half) in enumerate([(4, 0), (4, 0), (6, 1), (6, 1)]):
        half_energy = splits.divide(energy, n, k, y[place : place + 1], THRESHOLD)[half]
        wanted = float(anchors[place % 2])
        assert float(half_energy) / hits == pytest.approx(wanted, rel=1e-5)


def test_the_tails_stay_finite_in_single_precision() -> None:
    numbers, offsets = mixture(0)
    ends = torch.tensor([1e-12, 1e-7, 1 - 6e-8])
    y = splits.share_draw(numbers.expand(3, -1), offsets.expand(3, -1), ends)
    assert torch.isfinite(y).all()
    far = torch.tensor([-16.0, 16.0])
    log_p = splits.share_log_prob(numbers.expand(2, -1), offsets.expand(2, -1), far)
    assert torch.isfinite(log_p).all()
    k = torch.tensor([1.0, 144.0])
    narrow = torch.full((2, 13), -20.0)
    assert torch.isfinite(splits.many_log_prob(narrow, torch.zeros(2), torch.full((2,), 144.0), k)).all()
