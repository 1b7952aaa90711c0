"""The quantile coding: independent normal numbers have the occupancy and the hit spectrum of the training sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from caloforge.draws import Draws
from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.preprocessing.quantiles import HitQuantile, QuantileFit, logit_to_normal, normal_to_logit
from caloforge.preprocessing.voxel_steps import LayerSums

MESH = CylindricalGeometry("two rings", (Layer(0, (0.0, 1.0, 2.0), 20),))
THRESHOLD = 0.5
N = 3000


def draws(seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed))


def toy(n: int, seed: int) -> Tensor:
    """Showers of other sizes, with few hits in the outer ring; energies with an edge at 4 thresholds."""
    rng = np.random.default_rng(seed)
    size = np.exp(rng.uniform(-2, 1, (n, 1, 1)))
    hit = rng.random((n, 20, 2)) < np.array([0.9, 0.2]) * np.minimum(size, 1)
    peak = rng.random(hit.shape) < 0.5
    soft = rng.exponential(2.0, hit.shape) * np.minimum(3, 1 + size)
    free = np.where(peak, 3 + rng.exponential(0.3, hit.shape), soft)
    return torch.from_numpy(np.where(hit, THRESHOLD * (1 + free), 0)).float().flatten(1)


def fitted(voxels: Tensor) -> tuple[HitQuantile, Tensor]:
    step = HitQuantile(MESH)
    fit = step.fit()
    for rows in voxels.split(700):
        fit.update(rows, step.sums.context_of(rows, THRESHOLD), draws())
    fit.finish()
    return step, step.encode(voxels, step.sums.context_of(voxels, THRESHOLD), draws())


def test_the_logit_of_a_normal_number_and_back() -> None:
    x = torch.linspace(-6, 6, 241, dtype=torch.float64)
    assert torch.allclose(logit_to_normal(normal_to_logit(x)), x, atol=1e-9)
    assert (torch.sigmoid(normal_to_logit(x)) - torch.special.ndtr(x)).abs().max() < 1.5e-4


def test_codes_are_standard_normal_in_every_ring() -> None:
    _, x = fitted(toy(N, 0))
    for ring in (x[:, 0::2], x[:, 1::2]):
        # Tables have knots: what lies between them is interpolated.
        assert kstest(ring.flatten().numpy(), "norm").statistic < 0.01


def test_independent_normal_numbers_have_occupancy_and_spectrum_of_each_ring() -> None:
    voxels = toy(N, 0)
    step, _ = fitted(voxels)
    other = toy(N, 1)
    found = step.decode(draws(2).normal(N, 40), step.sums.context_of(other, THRESHOLD))
    assert torch.equal(step.sums.sum((found > 0).float()), step.sums.sum((other > 0).float()))
    edges = THRESHOLD * torch.tensor([1.0, 1.3, 1.8, 2.5, 4.6, 6.0, 10.0, 20.0])
    for ring in (0, 1):
        wanted, drawn = (sample[:, ring::2] for sample in (other, found))
        assert (drawn > 0).float().mean().item() == pytest.approx((wanted > 0).float().mean().item(), rel=0.04)
        counts = [torch.histogram(sample[sample > 0], edges).hist for sample in (wanted, drawn)]
        # A ratio of 250 hits has an error of 9 %.
        assert (counts[1] / counts[0] - 1).abs().max() < 0.2, counts


def test_small_errors_of_codes_do_not_pile_up_at_the_threshold() -> None:
    voxels = toy(N, 0)
    step, x = fitted(voxels)
    context = step.sums.context_of(voxels, THRESHOLD)
    found = step.decode(x + 0.2 * draws(3).normal(*x.shape), context)
    low = [float(((v > 0) & (v < 1.2 * THRESHOLD)).sum()) for v in (voxels, found)]
    assert low[1] == pytest.approx(low[0], rel=0.25)


def test_a_hotter_code_is_a_hotter_voxel() -> None:
    voxels = toy(100, 1)
    step, _ = fitted(toy(N, 0))
    context = step.sums.context_of(voxels, THRESHOLD)
    x = draws(1).normal(*voxels.shape)
    higher = torch.zeros(40)
    higher[7] = 0.5
    cold, hot = (step.decode(code, context)[:, 7] for code in (x, x + higher))
    assert (hot >= cold).all()
    assert (hot > cold)[cold > 0].all()
    assert (hot > cold)[cold == 0].any()


def test_tables_are_made_of_some_showers_spread_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files may be ordered by energy."""
    monkeypatch.setattr("caloforge.preprocessing.quantiles.SAMPLE", 100)
    step, voxels = HitQuantile(MESH), toy(1000, 0)
    fit = QuantileFit(step)
    for rows in voxels.split(70):
        fit.update(rows, LayerSums(MESH).context_of(rows, THRESHOLD), draws())
    kept = torch.cat([some.number for some in fit._kept])
    assert kept.tolist() == list(range(0, 1000, 16))
    fit.finish()
    assert step.decode(draws().normal(10, 40), step.sums.context_of(voxels[:10], THRESHOLD)).isfinite().all()


def test_a_ring_or_layer_without_a_hit_has_a_coding_all_the_same() -> None:
    voxels = toy(200, 0)
    voxels[:, 1::2] = 0
    voxels[:5] = 0
    step, x = fitted(voxels)
    assert x.isfinite().all()
    back = step.decode(x, step.sums.context_of(voxels, THRESHOLD))
    assert torch.allclose(back, voxels, rtol=1e-3)


def test_numbers_that_are_none_come_out_as_such() -> None:
    """A training that went wrong is told by its showers, which the sampling checks; no table is left."""
    voxels = toy(1000, 1)
    step, code = fitted(voxels)
    code[3] = torch.nan
    decoded = step.decode(code, step.sums.context_of(voxels, THRESHOLD))
    assert decoded[3].isnan().any()
    assert decoded[4:].isfinite().all()
