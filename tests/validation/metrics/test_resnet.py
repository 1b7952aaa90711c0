"""The residual network against its published shape."""

import pytest
import torch

from caloforge.geometry import load_geometry
from caloforge.validation.metrics.challenge_classifiers import CLASSIFIERS
from caloforge.validation.metrics.resnet import ResNet18


def image_shape(name):
    geometry = load_geometry(name)
    return geometry, (geometry.n_layers, geometry.active_layers[0].n_alpha, geometry.active_layers[0].n_r)


@pytest.mark.parametrize(("name", "shape"), [("dataset_2", (45, 16, 9)), ("dataset_3", (45, 50, 18))])
def test_shapes(name, shape):
    geometry, found = image_shape(name)
    assert found == shape
    network = CLASSIFIERS["resnet"].network(1 + geometry.n_voxels, geometry)
    assert network.shape == shape
    with torch.no_grad():
        assert network(torch.zeros(2, 1 + geometry.n_voxels)).shape == (2, 1)
        steps = network.stem(torch.zeros(1, 1, *shape))
        # Two strides of two in the stem, one in each later stage.
        assert steps.shape[1:] == (32, *(-(-n // 4) for n in shape))
        assert network.stages(steps).shape[1:] == (128, *(-(-n // 32) for n in shape))


def test_parameters():
    """Counted by hand: convolutions without bias, two numbers per channel of each normalisation."""

    def block(channels, planes, shortcut):
        size = 27 * planes * (channels + planes) + 4 * planes
        return size + (planes * channels + 2 * planes if shortcut else 0)

    expected = 343 * 32 + 2 * 32 + 2 * block(32, 32, shortcut=False)
    for channels, planes in ((32, 64), (64, 64), (64, 128)):
        expected += block(channels, planes, shortcut=True) + block(planes, planes, shortcut=False)
    expected += 2 + 129 + 1
    assert sum(p.numel() for p in ResNet18((45, 16, 9)).parameters()) == expected == 2_516_644


def test_images_have_layers_then_alpha_then_r():
    network = ResNet18((45, 16, 9)).eval()
    seen = []
    network.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.zeros(1, 1 + 6480)
    x[0, 1 + 144 * 7 + 9 * 5 + 3] = 1
    with torch.no_grad():
        network(x)
    assert torch.nonzero(seen[0]).tolist() == [[0, 0, 7, 5, 3]]


def test_it_sees_the_seam_as_the_published_one_does():
    # Its convolutions are padded with zeros, so a rotation in alpha changes the answer.
    torch.manual_seed(0)
    network, image = ResNet18((45, 16, 9)).eval(), torch.rand(1, 45, 16, 9)
    turned = image.roll(3, dims=2)
    with torch.no_grad():
        answers = [network(torch.cat([torch.zeros(1, 1), x.reshape(1, -1)], dim=1)).item() for x in (image, turned)]
    assert answers[0] != pytest.approx(answers[1], rel=1e-4)


def test_the_energy_enters_at_the_end():
    torch.manual_seed(0)
    network = ResNet18((8, 4, 4)).train()
    x = torch.rand(6, 1 + 128)
    other = x.clone()
    other[:, 0] = 5 + 3 * x[:, 0]  # the batch normalisation takes scale and offset away
    with torch.no_grad():
        assert torch.allclose(network(x), network(other), atol=1e-3)
        other[:, 0] = x[:, 0].flip(0)
        assert not torch.allclose(network(x), network(other), atol=1e-3)
