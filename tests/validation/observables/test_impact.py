import numpy as np
import pytest

from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.validation.observables.impact import expect_centres, fit_impact
from caloforge.validation.observables.per_shower import shower_centre
from caloforge.validation.observables.summary import summarise_voxels
from caloforge.validation.registries import OBSERVABLES

PLANE = CylindricalGeometry("plane", (Layer(0, tuple(np.arange(0.0, 101.0, 2.0)), 64),))


def showers(seed, distance=7000.0, forward=True, n=400, scale=1.0):
    """Point-like showers where particles from the origin hit a plane at a distance."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(0.003, 0.01, n) if forward else np.pi / 2 + rng.uniform(-0.01, 0.01, n)
    phi = rng.uniform(-np.pi, np.pi, n)
    x, y = (
        distance * np.tan(theta) * np.stack([np.cos(phi), np.sin(phi)])
        if forward
        else np.stack([distance / np.tan(theta), np.zeros(n)])
    )
    x, y = scale * x + rng.normal(0, 1, n), scale * y + rng.normal(0, 1, n)
    voxels = np.zeros((n, PLANE.n_voxels), np.float32)
    nearest = np.argmin((PLANE.eta_of_voxel - x[:, None]) ** 2 + (PLANE.phi_of_voxel - y[:, None]) ** 2, axis=1)
    voxels[np.arange(n), nearest] = 100
    return summarise_voxels([voxels], np.full(n, 1e3), PLANE, theta=theta, phi=phi)


@pytest.mark.parametrize("forward", [True, False])
def test_the_distance_is_found_and_residuals_are_small(forward):
    reference, other = showers(1, forward=forward), showers(2, forward=forward)
    impact = fit_impact(reference)
    assert impact.forward == forward
    assert impact.distance == pytest.approx(7000, rel=0.02)
    np.testing.assert_allclose(impact.middle, 0, atol=0.5)
    _, expected = expect_centres(reference, {"other": other})
    residual = OBSERVABLES.get("centre_residual_eta").values(expected["other"])
    assert residual.shape == (400,)
    assert residual.std() < 2.5
    assert shower_centre(other)[:, 0].std() > 10


def test_a_generator_that_misses_the_impact_point_is_seen():
    reference, bad = showers(3), showers(4, scale=0.8)
    reference, expected = expect_centres(reference, {"bad": bad})
    outward = OBSERVABLES.get("centre_residual_outward").values
    assert outward(reference).mean() == pytest.approx(0, abs=0.3)
    assert outward(expected["bad"]).mean() == pytest.approx(-0.2 * 7000 * 0.0065, rel=0.1)
    across = OBSERVABLES.get("centre_residual_phi").values
    assert across(expected["bad"]).std() > 3 * across(reference).std()


def test_without_angles_nothing_is_said(mesh, toy_showers):
    energy, voxels = toy_showers(mesh, 50, seed=1)
    summary = summarise_voxels([voxels], energy, mesh)
    assert fit_impact(summary) is None
    reference, others = expect_centres(summary, {"a": summary})
    assert reference.expected_centre is None
    assert others == {"a": summary}
    assert OBSERVABLES.get("centre_residual_eta").columns(summary).shape == (50, 0)
    assert expect_centres(showers(5, n=60), {"a": summary})[0].expected_centre is None
