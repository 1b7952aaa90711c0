"""A field over time knows the time, and what it is conditioned on."""

from __future__ import annotations

import math

import pytest
import torch
from exact_gaussian import LINE

from caloforge.models.networks.vector_field import VectorField, VectorFieldConfig, time_features
from caloforge.models.registries import NETWORKS


def test_time_features_begin_with_one_turn_and_end_with_a_hundred() -> None:
    found = time_features(torch.tensor([[0.0], [0.003], [1.0]]), 32)
    assert found.shape == (3, 32)
    assert torch.allclose(found[0], torch.tensor([0.0] * 16 + [1.0] * 16))
    angle = 2 * math.pi * 0.003
    wanted = torch.tensor([math.sin(angle), math.sin(100 * angle), math.cos(angle), math.cos(100 * angle)])
    assert torch.allclose(found[1, [0, 15, 16, 31]], wanted, atol=1e-4)


@pytest.mark.parametrize("backbone", [name for name in NETWORKS if "V -> V" in NETWORKS.get(name).kinds])
def test_another_time_or_condition_is_another_vector(backbone: str) -> None:
    torch.manual_seed(0)
    config = VectorFieldConfig.parse({"network": {"backbone": backbone, "width": 16, "blocks": 1}}, where="test")
    field = VectorField(LINE, 2, config)
    x, t, condition = torch.randn(5, 2), torch.rand(5, 1), torch.randn(5, 2)
    here = field(x, t, condition)
    assert (field(x, t + 0.2, condition) - here).abs().max() > 1e-3
    assert (field(x, t, condition + 0.2) - here).abs().max() > 1e-3
