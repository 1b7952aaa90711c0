"""Backbones over cylinders: they turn with the shower, and know depth and radius."""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from cell_grids import focal
from onnxruntime import InferenceSession
from torch import Tensor, nn

from caloforge.errors import InputError
from caloforge.geometry import CylindricalGeometry, Layer, load_geometry
from caloforge.models.family import record_graph
from caloforge.models.networks.backbone import Backbone, build_network
from caloforge.models.networks.patches import PatchesConfig, rotary_angles, turned
from caloforge.models.networks.unet import CylinderConv, SelfAttention, UNetConfig

EDGES = (0.0, 1.0, 2.0, 3.5)
ALIKE = CylindricalGeometry("alike", tuple(Layer(i, EDGES, 8) for i in range(5)))
UNLIKE = CylindricalGeometry("unlike", (Layer(0, (0.0, 2.0), 1), Layer(1, EDGES, 4), Layer(2, (0.0, 1.0, 3.0), 4)))
SMALL: dict[str, Any] = {
    "patches": PatchesConfig(width=16, blocks=2, heads=2, patch=(2, 2, 2)),
    "unet": UNetConfig(width=8, levels=2, attention=True),
}
BINS = 2  # alpha bins of a patch, and of a place of the coarsest level


def build(name: str, geometry: CylindricalGeometry = ALIKE, *, channels: int = 1, broken: bool = False) -> Backbone:
    """Return a network with random weights also where training begins at zero; ``broken``: in alpha too."""
    torch.manual_seed(0)
    network = build_network(geometry, SMALL[name], n_conditions=3, channels=channels)
    for key, weight in network.named_parameters():
        if not weight.any() and (broken or key != "alpha"):
            nn.init.normal_(weight, std=0.3)
    return network


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_turned_shower_is_answered_by_the_turned_answer(name: str) -> None:
    network = build(name)
    x, condition = torch.randn(4, ALIKE.n_voxels), torch.randn(4, 3)
    order = torch.as_tensor(ALIKE.rotation(BINS))
    answer = network(x, condition)
    assert torch.allclose(network(x[:, order], condition), answer[:, order], atol=1e-5)
    assert not torch.allclose(answer[:, order], answer, atol=1e-2)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_training_can_teach_it_where_alpha_is(name: str) -> None:
    network = build(name, broken=True)
    x, condition = torch.randn(4, ALIKE.n_voxels), torch.randn(4, 3)
    order = torch.as_tensor(ALIKE.rotation(BINS))
    assert (network(x[:, order], condition) - network(x, condition)[:, order]).abs().max() > 1e-2


@pytest.mark.parametrize("name", sorted(SMALL))
def test_depth_and_radius_are_known(name: str) -> None:
    """The same numbers in all voxels are not answered by the same at equal places of two patches."""
    answer = build(name)(torch.ones(1, ALIKE.n_voxels), torch.zeros(1, 3)).reshape(5, 8, 3)
    assert (answer[2] - answer[0]).abs().max() > 1e-3
    assert (answer[:, :, 2] - answer[:, :, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("geometry", [ALIKE, UNLIKE, load_geometry("dataset_1_photons")], ids=lambda g: g.name)
@pytest.mark.parametrize("name", sorted(SMALL))
def test_gradients_reach_every_parameter_and_every_voxel(name: str, geometry: CylindricalGeometry) -> None:
    network = build(name, geometry, channels=2, broken=True)
    x = torch.randn(3, geometry.n_voxels, requires_grad=True)
    condition = torch.randn(3, 3, requires_grad=True)
    answer = network(x, condition)
    assert answer.shape == (3, 2 * geometry.n_voxels)
    answer.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    assert (x.grad != 0).all()
    assert (condition.grad != 0).all()


@pytest.mark.parametrize("name", sorted(SMALL))
def test_showers_do_not_see_each_other(name: str) -> None:
    network = build(name)
    x, condition = torch.randn(3, ALIKE.n_voxels), torch.randn(3, 3)
    assert torch.allclose(network(x, condition)[1:2], network(x[1:2], condition[1:2]), atol=1e-5)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_cells_are_refused_with_what_fits(name: str) -> None:
    with pytest.raises(InputError, match=rf"backbone '{name}' needs layers of rings, but .* choose mlp or layers"):
        build_network(focal(), SMALL[name], n_conditions=3)


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="width 12 must be a multiple of twice the heads, 8"):
        PatchesConfig.parse({"width": 12, "heads": 4}, where="test")


def test_a_convolution_is_circular_in_alpha_alone() -> None:
    conv = CylinderConv(1, 1)
    nn.init.ones_(conv.conv.weight)
    nn.init.zeros_(conv.conv.bias)
    point = torch.zeros(1, 1, 5, 6, 4)
    point[0, 0, 0, 0, 0] = 1
    seen = conv(point)[0, 0] > 0
    assert seen[:2, [5, 0, 1], :2].all()
    assert seen.sum() == 2 * 3 * 2


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_recorded_graph_answers_the_same_for_any_number_of_showers(name: str) -> None:
    network, file = build(name, UNLIKE, broken=True), BytesIO()
    inputs = {"x": torch.randn(3, UNLIKE.n_voxels), "condition": torch.randn(3, 3)}
    record_graph(network, inputs, ["answer"], file, dict.fromkeys((*inputs, "answer"), 0), opset=17)
    session = InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    other = {key: torch.cat([value, value]) for key, value in inputs.items()}
    (found,) = session.run(None, {key: value.numpy() for key, value in other.items()})
    with torch.no_grad():
        assert np.allclose(found, network(*other.values()), atol=1e-4)


def test_attention_is_that_of_torch() -> None:
    layer = SelfAttention(8)
    nn.init.constant_(layer.gain, 0.7)
    x = torch.randn(2, 8, 2, 3, 1)
    q, k, v = (part(x).flatten(2) for part in (layer.query, layer.key, layer.value))
    weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k), 2)
    wanted = x + 0.7 * layer.project(torch.einsum("bij,bcj->bci", weights, v).reshape(2, 4, 2, 3, 1))
    assert torch.allclose(layer(x), wanted, atol=1e-6)


def test_rotary_numbers_make_whole_turns_in_alpha() -> None:
    angles = rotary_angles((2, 8, 3), 7).reshape(2, 8, 3, 7)
    for pair in (0, 3, 6):  # those of alpha
        steps = angles[0, :, 0, pair].diff()
        assert torch.allclose(steps, steps[:1].expand(7), atol=1e-5)
        assert (8 * steps[0] / (2 * math.pi)).item() == pytest.approx(pair // 3 + 1, abs=1e-5)
    assert torch.equal(angles[:, 0, 0, 1], torch.tensor([0.0, 1.0]))
    assert torch.equal(angles[0, 0, :, 2], torch.tensor([0.0, 1.0, 2.0]))


def test_turned_products_depend_on_the_difference_of_angles() -> None:
    q, k = torch.randn(2, 1, 6, dtype=torch.float64)

    def product(one: float, other: float) -> Tensor:
        angles = [torch.tensor([[a, 2 * a, 3 * a]], dtype=torch.float64) for a in (one, other)]
        return (turned(q, *map_of(angles[0])) * turned(k, *map_of(angles[1]))).sum()

    def map_of(angle: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cos(angle), torch.sin(angle)

    assert product(0.3, 1.1).item() == pytest.approx(product(2.3, 3.1).item())
    assert product(0.3, 1.1).item() != pytest.approx(product(0.3, 1.5).item())
