"""High-level features against the transcription of the definitions, and what else a summary holds."""

import numpy as np
import pytest

from caloforge.geometry import load_geometry
from caloforge.validation.observables.features import high_level_features
from caloforge.validation.observables.per_shower import (
    lateral_first_moment,
    lateral_second_moment,
    longitudinal_first_moment,
    longitudinal_second_moment,
)
from caloforge.validation.observables.summary import SPECTRUM_EDGES, summarise, summarise_voxels
from caloforge.validation.registries import OBSERVABLES


@pytest.mark.parametrize(("name", "n_features"), [("dataset_1_photons", 30), ("dataset_1_pions", 46)])
def test_features_follow_the_definitions_for_unlike_layers(name, n_features, toy_showers, oracle):
    geometry = load_geometry(name)
    energy, voxels = toy_showers(geometry, 20, seed=1)
    voxels[0, geometry.layer_slices[1]] = 0  # an empty layer
    features = high_level_features(summarise_voxels([voxels[:7], voxels[7:]], energy, geometry, threshold=1.0))
    expected = oracle.features(oracle.observables(energy, oracle.cut(voxels, 1.0), geometry.layers))
    assert features.shape == (20, n_features)
    # A width near 0 is the root of a difference of nearly equal squares: 1e-16 becomes 1e-8.
    np.testing.assert_allclose(features, expected, rtol=1e-6, atol=1e-8)


def test_features_follow_the_definitions_for_equal_layers(mesh, toy_showers, oracle):
    energy, voxels = toy_showers(mesh, 20, seed=2)
    features = high_level_features(summarise_voxels([voxels], energy, mesh, threshold=5.0))
    expected = oracle.features(oracle.observables(energy, oracle.cut(voxels, 5.0), mesh.layers))
    np.testing.assert_allclose(features, expected, rtol=1e-6, atol=1e-8)


def test_datasets_2_and_3_have_362_features():
    for name in ("dataset_2", "dataset_3"):
        geometry = load_geometry(name)
        summary = summarise_voxels([np.ones((2, geometry.n_voxels), np.float32)], np.asarray([1e3, 1e4]), geometry)
        assert high_level_features(summary).shape == (2, 362)


def test_an_empty_shower_gives_finite_observables(irregular_mesh):
    voxels = np.zeros((3, irregular_mesh.n_voxels), np.float32)
    summary = summarise_voxels([voxels], np.full(3, 1e3), irregular_mesh)
    assert (summary.centre["r"] == 0).all()
    for observable in OBSERVABLES.values():
        assert np.isfinite(observable.columns(summary)).all()
        if observable.columns(summary).shape[1]:
            assert np.isfinite(observable.plotted(summary)).all()
    features = high_level_features(summary)
    assert np.isfinite(features).all()
    assert (features[:, 1 : 1 + irregular_mesh.n_layers] == -8).all()


def test_moments_follow_their_definitions(irregular_mesh, toy_showers):
    energy, voxels = toy_showers(irregular_mesh, 10, seed=3)
    summary = summarise_voxels([voxels], energy, irregular_mesh)
    weight = voxels.astype(float)
    for first, second, x in (
        (longitudinal_first_moment, longitudinal_second_moment, irregular_mesh.layer_of_voxel),
        (lateral_first_moment, lateral_second_moment, irregular_mesh.r_of_voxel),
    ):
        mean = (weight * x).sum(axis=1) / weight.sum(axis=1)
        variance = (weight * (x - mean[:, None]) ** 2).sum(axis=1) / weight.sum(axis=1)
        np.testing.assert_allclose(first(summary), mean, rtol=1e-9)
        np.testing.assert_allclose(second(summary), variance, rtol=1e-6, atol=1e-9)


def test_profiles_keep_the_energy_and_the_voxels(irregular_mesh, toy_showers):
    energy, voxels = toy_showers(irregular_mesh, 40, seed=4)
    summary = summarise_voxels([voxels[:15], voxels[15:]], energy, irregular_mesh)
    area = np.pi * np.diff(summary.lateral.edges**2)
    total = voxels.sum(axis=1, dtype=float)
    assert (summary.lateral.mean * area).sum() == pytest.approx(total.mean(), rel=1e-6)
    assert (summary.image.mean * area).sum(axis=1) == pytest.approx(summary.layer_energy.mean(axis=0), rel=1e-6)
    np.testing.assert_allclose(summary.group_spectra.mean.sum(axis=0), summary.spectrum.mean)
    first = voxels[:, irregular_mesh.layer_slices[0].start : irregular_mesh.layer_slices[1].stop]
    assert summary.group_spectra.mean[0].sum() == pytest.approx((first > 0).sum(axis=1).mean())
    assert summary.spectrum.mean.sum() == pytest.approx((voxels > 0).sum(axis=1).mean())
    counts = np.histogram(voxels[voxels > 0], SPECTRUM_EDGES)[0]
    np.testing.assert_allclose(summary.spectrum.mean * 40, counts, atol=1e-9)


def test_ring_energy_is_spread_by_area(irregular_mesh):
    voxels = np.zeros((1, irregular_mesh.n_voxels), np.float32)
    voxels[0, irregular_mesh.layer_slices[2]] = 900.0  # the single disc of 30 mm
    summary = summarise_voxels([voxels], np.asarray([1e3]), irregular_mesh)
    assert summary.lateral.mean == pytest.approx(900 / (np.pi * 30**2))


def test_the_summary_does_not_depend_on_the_chunks(mesh, toy_showers, write):
    energy, voxels = toy_showers(mesh, 50, seed=5)
    whole = summarise(write("showers", mesh, energy, voxels), threshold=1.0)
    pieces = summarise_voxels(np.split(voxels, [3, 4, 30]), energy, mesh, threshold=1.0)
    for name in ("layer_energy", "layer_hits"):
        np.testing.assert_allclose(getattr(whole, name), getattr(pieces, name), rtol=1e-12)
    np.testing.assert_allclose(whole.lateral.error, pieces.lateral.error, rtol=1e-9)


def test_turning_a_shower_turns_its_centre_and_keeps_its_width_in_r(mesh, toy_showers):
    energy, voxels = toy_showers(mesh, 30, seed=6)
    summary = summarise_voxels([voxels], energy, mesh)
    turned = summarise_voxels([voxels[:, mesh.rotation(1)]], energy, mesh)  # by a quarter
    np.testing.assert_allclose(turned.centre["eta"], -summary.centre["phi"], atol=1e-9)
    np.testing.assert_allclose(turned.centre["phi"], summary.centre["eta"], atol=1e-9)
    np.testing.assert_allclose(turned.width["r"], summary.width["r"], atol=1e-6)
    np.testing.assert_allclose(turned.layer_energy, summary.layer_energy, rtol=1e-12)


def test_a_layer_with_one_hit_has_no_width(mesh):
    """Not even that of rounding, which a reference with no wider layer would scale to something huge."""
    rng = np.random.default_rng(3)
    voxels = np.zeros((200, mesh.n_voxels), np.float32)
    for place in mesh.layer_slices:
        voxels[np.arange(200), rng.integers(place.start, place.stop, 200)] = rng.uniform(0.1, 900, 200)
    summary = summarise_voxels([voxels], np.full(200, 1e4), mesh)
    for axis, width in summary.width.items():
        assert not width.any(), axis
