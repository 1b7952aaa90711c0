import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.showers import open_showers
from caloforge.validation.metrics.channels import channel_wasserstein, checkerboard_channels
from caloforge.validation.metrics.sample import Sample
from caloforge.validation.observables.summary import summarise


def plain_channels(response):
    """One response, cell by cell."""
    rows, columns = response.shape
    sums = [0.0] * 5
    for i in range(rows):
        for j in range(columns):
            odd = (i + j) % 2 == 1
            sums[4 if odd else 2 * (i >= rows // 2) + (j >= columns // 2)] += response[i, j]
    return sums


@pytest.mark.parametrize("shape", [(44, 44), (56, 30), (5, 3)])
def test_channels_agree_with_the_definition(shape):
    responses = np.random.default_rng(0).gamma(0.3, 2, (4, *shape)).astype(np.float32)
    found = checkerboard_channels(responses)
    np.testing.assert_allclose(found, [plain_channels(r.astype(float)) for r in responses], rtol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), responses.sum(axis=(1, 2)), rtol=1e-5)


def test_the_distance_is_scipys_mean_over_channels():
    rng = np.random.default_rng(1)
    x, y = rng.gamma(2, 3, (500, 5)), rng.gamma(2, 3.3, (500, 5))
    result = channel_wasserstein(x, y)
    expected = np.mean([wasserstein_distance(x[:, i], y[:, i]) for i in range(5)])
    assert result.value == pytest.approx(expected, rel=1e-12)
    assert 0 < result.error < expected
    assert channel_wasserstein(x, x).value == 0


def test_layers_are_channels_and_a_flat_mesh_is_a_checkerboard(demo_showers, write):
    showers = open_showers(demo_showers).select(range(60))
    sample = Sample(showers, summarise(showers))
    np.testing.assert_array_equal(sample.channels, sample.summary.layer_energy)

    flat = CylindricalGeometry("flat", (Layer(0, (0.0, 5.0, 10.0, 20.0), 6),))
    voxels = np.random.default_rng(2).gamma(0.5, 1, (60, 18)).astype(np.float32)
    written = write("flat", flat, np.full(60, 1e3), voxels)
    sample = Sample(written, summarise(written, threshold=0.3))
    cut = np.where(voxels < 0.3, 0, voxels).reshape(-1, 6, 3)
    np.testing.assert_allclose(sample.channels, [plain_channels(r) for r in cut], rtol=1e-6)
