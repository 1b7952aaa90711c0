"""All deterministic figures of the challenge protocol against the plain transcription, to 1e-6."""

import numpy as np
import pytest

from caloforge.geometry import load_geometry
from caloforge.showers import open_showers
from caloforge.validation.metrics.challenge import separations
from caloforge.validation.metrics.frechet import challenge_fpd
from caloforge.validation.metrics.kernel import kpd
from caloforge.validation.metrics.prdc import log_voxels, prdc
from caloforge.validation.metrics.sample import Sample
from caloforge.validation.observables.summary import summarise

N = 120
DIMENSIONS = {"dataset_1_photons": 30, "dataset_1_pions": 46, "dataset_2": 362}


@pytest.fixture(scope="module", params=sorted(DIMENSIONS))
def pair(request, demo_showers, write_module):
    """Two samples of real showers on a mesh of the challenge, with its layers' energies kept where that can be.

    The package's showers are dataset 2's rebinned by 3 layers, 2 alpha and 2 or 3 r bins: their energies are
    shared out at random again. The meshes of dataset 1 get real voxel energies in an order of their own.
    """
    name = request.param
    geometry, demo = load_geometry(name), open_showers(demo_showers)
    rng = np.random.default_rng(0)
    voxels = demo.select(range(2 * N)).read().astype(float)
    energy = demo.select(range(2 * N)).conditions.incident_energy
    if name == "dataset_2":
        fine = np.zeros((2 * N, 45, 16, 9))
        rings = ((0, 1), (1, 2), (2, 4), (4, 9))
        for i, (a, b) in enumerate(rings):
            shape = (2 * N, 15, 3, 8, 2, b - a)
            share = rng.gamma(0.3, 1, shape)
            share /= share.sum(axis=(2, 4, 5), keepdims=True)
            coarse = voxels.reshape(2 * N, 15, 8, 4)[:, :, None, :, None, i, None]
            fine[..., a:b] = (coarse * share).reshape(2 * N, 45, 16, b - a)
        voxels = fine.reshape(2 * N, -1)
    else:
        columns = rng.integers(voxels.shape[1], size=geometry.n_voxels)
        voxels = voxels[:, columns] * 5
        energy = 2.0 ** (8 + np.arange(2 * N) % 15)
        voxels *= (energy * rng.normal(1, 0.1, 2 * N) / voxels.sum(axis=1))[:, None]
        voxels[:4] *= 0.001  # showers that the threshold empties
    return name, [
        write_module(f"{name}_{i}", geometry, energy[rows], voxels[rows])
        for i, rows in enumerate((slice(N), slice(N, 2 * N)))
    ]


@pytest.fixture(scope="module")
def both(pair, oracle):
    """The package's samples, and the oracle's observables and showers."""
    name, files = pair
    samples = [Sample(file, summarise(file, threshold=oracle.THRESHOLDS[name])) for file in files]
    plain = []
    for file in files:
        voxels = oracle.cut(file.read(), oracle.THRESHOLDS[name])
        plain.append((oracle.observables(file.conditions.incident_energy, voxels, file.geometry.layers), voxels))
    return name, samples, plain


def test_features_are_the_published_ones_in_their_order(both, oracle):
    name, samples, plain = both
    for sample, (observables, _) in zip(samples, plain, strict=True):
        expected = oracle.features(observables)
        assert expected.shape == (N, DIMENSIONS[name])
        # Widths are roots of differences: what remains of a layer with one voxel is rounding.
        np.testing.assert_allclose(sample.features, expected, rtol=1e-6, atol=1e-7)


def test_separation_powers(both, oracle):
    name, samples, plain = both
    found = separations(*samples)
    expected = oracle.separations(*plain, samples[0].summary.geometry.layers, name)
    assert set(found) == set(expected)
    for key, values in expected.items():
        parts = found[key].parts or (found[key].value,)
        known = np.isfinite(np.atleast_1d(values))  # the script divides 0 by 0 where a histogram is empty
        assert known.any()
        np.testing.assert_allclose(np.asarray(parts)[known], np.atleast_1d(values)[known], rtol=1e-6, atol=1e-15)


def test_kpd_draw_for_draw(both, oracle):
    _, (x, y), plain = both
    value, error = oracle.kpd(*(oracle.features(observables) for observables, _ in plain), batch_size=300)
    result = kpd(x.features, y.features, batch_size=300)
    assert result.value == pytest.approx(value, rel=1e-6)
    assert result.error == pytest.approx(error, rel=1e-6)


def test_precision_recall_density_coverage(both, oracle):
    _, samples, plain = both
    expected = oracle.prdc(*(oracle.log_voxels(voxels) for _, voxels in plain))
    found = prdc(*(log_voxels(sample.voxels()) for sample in samples))
    assert {key: result.value for key, result in found.items()} == pytest.approx(expected, rel=1e-6)
    assert expected["density"] > 0


def test_fpd_draw_for_draw(demo_showers, oracle):
    """On the energies and sparsities of three layers: the oracle needs a second for ten features."""
    demo = open_showers(demo_showers)
    samples = [demo.select(range(i * 1000, (i + 1) * 1000)) for i in range(2)]
    columns = [0, 4, 5, 6, 20, 65, 80, 81, 110]
    x, y = (Sample(s, summarise(s)).features[:, columns] for s in samples)
    value, error = oracle.fpd(x, y)
    result = challenge_fpd(x, y)
    assert result.value == pytest.approx(value, rel=1e-6)
    assert result.error == pytest.approx(error, rel=1e-5)  # the fit stops where its steps are this small
