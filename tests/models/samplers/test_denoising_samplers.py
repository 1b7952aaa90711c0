"""Samplers of a denoiser where the best one is known: what they draw, and how fast they come near the exact way."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from correlated_gaussian import COVARIANCE, MEAN, denoise, end_of_the_way
from torch import Tensor

from caloforge.models.registries import SAMPLERS
from caloforge.models.samplers.denoising import SIGMA_MAX, karras_sigmas, levels
from caloforge.models.samplers.restart import RestartConfig
from caloforge.models.samplers.sampler import Sampler

OF_A_DENOISER = sorted(name for name in SAMPLERS if SAMPLERS.get(name).takes == "denoiser")


def make(name: str, **settings: Any) -> Sampler:
    kind = SAMPLERS.get(name)
    return kind(kind.Config(**settings))


def noise_for(sampler: Sampler, steps: int, n: int) -> Tensor:
    size = n, 3 * (1 + sampler.draws(steps))
    return torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def moments(sampler: Sampler, steps: int) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of what is drawn, without any error: with this denoiser it is linear in the noise."""
    n = 3 * (1 + sampler.draws(steps))
    noise = torch.cat([torch.zeros(1, n), torch.eye(n)]).double()
    mean, *ends = sampler.sample(denoise, noise, torch.zeros(n + 1, 0), steps)
    reach = torch.stack(ends) - mean
    return mean, reach.T @ reach


@pytest.mark.parametrize(
    ("sampler", "steps"),
    [
        (make("ddpm"), 300),
        (make("ddpm", spacing="karras"), 500),
        (make("ddim", eta=0.5), 300),
        (make("ddim", spacing="karras"), 300),
        (make("dpm_solver"), 40),
        (make("dpm_solver", spacing="karras"), 60),
        (make("edm_heun"), 60),
        (make("restart", stretch_steps=12), 60),
        (make("restart", restarts=5, stretch_steps=20, low=0.3, high=2.0), 30),
    ],
    ids=lambda value: value.config.model_dump_json() if isinstance(value, Sampler) else str(value),
)
def test_mean_and_covariance_are_those_of_the_showers(sampler: Sampler, steps: int) -> None:
    """Within 3 % of the widths, for the finite steps."""
    mean, covariance = moments(sampler, steps)
    widths = COVARIANCE.diag().sqrt()
    assert ((mean - MEAN).abs() < 0.03 * widths).all()
    assert ((covariance - COVARIANCE).abs() < 0.03 * torch.outer(widths, widths)).all()


@pytest.mark.parametrize(
    ("sampler", "steps", "order"),
    [
        (make("ddim"), 40, 1),
        (make("ddim", spacing="karras"), 40, 1),
        (make("dpm_solver", spacing="karras"), 80, 2),
        (make("edm_heun"), 80, 2),
        # At even times the last steps halve what is left of the noise however many there are: slowly towards 2.
        (make("dpm_solver"), 320, 1.7),
    ],
    ids=lambda value: value.config.model_dump_json() if isinstance(value, Sampler) else str(value),
)
def test_order_of_the_way_down(sampler: Sampler, steps: int, order: float) -> None:
    """Half the step, 2^order less error."""
    noise = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    even = getattr(sampler.config, "spacing", "karras") == "even"
    angle = math.pi / 2 if even else math.atan(SIGMA_MAX)
    exact = end_of_the_way(math.sin(angle) * noise, angle)
    errors = [(sampler.sample(denoise, noise, torch.zeros(50, 0), n) - exact).norm().item() for n in (steps, 2 * steps)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)


def test_second_order_pays_at_ten_steps() -> None:
    noise = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = end_of_the_way(noise, math.pi / 2)
    first, second = (
        (make(name).sample(denoise, noise, torch.zeros(50, 0), 10) - exact).norm() for name in ("ddim", "dpm_solver")
    )
    assert second < first / 3


def test_ddpm_is_ddim_with_all_noise_fresh_and_has_its_posterior_variance() -> None:
    """One step from pure noise to angle b, then down: x_0 = D(x_b), x_b = cos b D(x_1) + sin b fresh."""
    for ours, theirs in zip(moments(make("ddpm"), 7), moments(make("ddim", eta=1.0), 7), strict=True):
        assert torch.equal(ours, theirs)
    noise = torch.randn(100, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    half = torch.full((100, 1), 0.5)
    between = math.sqrt(0.5) * (MEAN + noise[:, 3:])  # the expected shower in pure noise is the mean
    wanted, _ = denoise(between, half, half)
    assert torch.allclose(make("ddpm").sample(denoise, noise, half, 2), wanted)


def test_restarts_forget_what_went_wrong_before() -> None:
    """Three steps down miss the widths by more than a half of them; the second stretch finds them."""
    wrong = []
    for restarts in (1, 2, 4):
        _, covariance = moments(make("restart", restarts=restarts, stretch_steps=30, low=0.01, high=5.0), 3)
        wrong.append(((covariance - COVARIANCE).norm() / COVARIANCE.norm()).item())
    assert wrong[0] > 0.4
    assert max(wrong[1:]) < 0.05


@pytest.mark.parametrize("name", OF_A_DENOISER)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_any_number_of_steps_is_a_fixed_function_of_the_noise(name: str, steps: int) -> None:
    sampler = make(name)
    noise = noise_for(sampler, steps, 8)
    whole = sampler.sample(denoise, noise, torch.zeros(8, 0), steps)
    assert whole.isfinite().all()
    parts = [sampler.sample(denoise, noise[i : i + 1], torch.zeros(1, 0), steps) for i in range(8)]
    assert torch.allclose(whole, torch.cat(parts), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "steps", "draws"), [("ddim", 9, 0), ("ddpm", 9, 8), ("ddpm", 1, 0), ("restart", 9, 2), ("restart", 1, 0)]
)
def test_fresh_noise_is_asked_for_at_the_start(name: str, steps: int, draws: int) -> None:
    assert make(name).draws(steps) == draws


@pytest.mark.parametrize("spacing", ["even", "karras"])
def test_levels_fall_to_the_shower(spacing: Any) -> None:
    found = levels(12, spacing)
    assert len(found) == 13
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0
    assert found[0] == pytest.approx(math.pi / 2, abs=0.02)


def test_widths_of_the_noise_are_those_of_the_paper() -> None:
    """Karras et al., eq. 5, with N = 3: 80, the seventh power of the mean of the seventh roots, 0.002."""
    middle = ((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7
    assert karras_sigmas(3, 0.002, 80.0) == pytest.approx([80.0, middle, 0.002])


def test_a_stretch_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match=r"low must be less than high, got 0.5 and 0.5"):
        RestartConfig(low=0.5, high=0.5)
