"""What the layer transformer's tokens see of each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.models.networks.backbone import build_network
from caloforge.models.networks.layers import LayersConfig, LayerTransformer, _TransformerBlock

MESH = CylindricalGeometry(
    "mesh", (Layer(0, (0.0, 1.0, 2.0), 1), Layer(1, (0.0, 2.0), 4), Layer(2, (0.0, 1.0, 2.0, 3.0), 1))
)
CONFIG = LayersConfig(width=16, blocks=2, heads=4)
WIDTH, TOKENS = 16, 5


@pytest.fixture
def block() -> _TransformerBlock:
    torch.manual_seed(0)
    found = _TransformerBlock(WIDTH, 4).double()
    nn.init.normal_(found.modulation.weight, std=0.1)
    return found


def tokens() -> tuple[Tensor, Tensor]:
    h, condition = torch.randn(3, TOKENS, WIDTH, dtype=torch.float64), torch.randn(3, WIDTH, dtype=torch.float64)
    return h, condition


def test_attention_is_that_of_torch(block: _TransformerBlock) -> None:
    theirs = nn.MultiheadAttention(WIDTH, 4, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict(
        {
            "in_proj_weight": block.qkv.weight, "in_proj_bias": block.qkv.bias,
            "out_proj.weight": block.project.weight, "out_proj.bias": block.project.bias,
        }
    )  # fmt: skip
    for layer in (block.mlp[0], block.mlp[2]):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    h, condition = tokens()
    scale, shift, gate = block.modulation(condition)[:, None].chunk(6, 2)[:3]
    seen = nn.functional.layer_norm(h, (WIDTH,)) * (1 + scale) + shift
    assert torch.allclose(block(h, condition), h + gate * theirs(seen, seen, seen)[0])


def test_another_order_of_tokens_gives_the_same_in_that_order(block: _TransformerBlock) -> None:
    h, condition = tokens()
    order = torch.tensor([3, 0, 4, 1, 2])
    assert torch.allclose(block(h[:, order], condition), block(h, condition)[:, order])
    assert not torch.allclose(block(h, condition), block(h, condition)[:, order])


def sensitivity(network: nn.Module) -> Tensor:
    """Return the (L, L) largest change of a layer's output with the voxels of another."""
    torch.manual_seed(1)
    x, condition = torch.randn(1, MESH.n_voxels), torch.randn(1, 3)
    jacobian = torch.autograd.functional.jacobian(lambda v: network(v[None], condition)[0], x[0]).abs()
    places = MESH.layer_slices
    return torch.tensor([[jacobian[a, b].max() for b in places] for a in places])


def build() -> LayerTransformer:
    torch.manual_seed(0)
    network = build_network(MESH, CONFIG, n_conditions=3)
    assert isinstance(network, LayerTransformer)
    return network


def test_every_layer_sees_every_other() -> None:
    assert sensitivity(build()).min() > 1e-3


def test_layers_see_each_other_by_attention_alone() -> None:
    network = build()
    for block in network.blocks:
        nn.init.zeros_(block.project.weight)
    found = sensitivity(network)
    assert found.diagonal().min() > 1e-3
    assert (found - torch.diag(found.diagonal())).abs().max() == 0
