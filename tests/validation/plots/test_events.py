import numpy as np

from caloforge.validation.observables.summary import common_r_edges
from caloforge.validation.plots.events import events, side_view


def test_a_side_view_holds_all_the_energy(irregular_mesh, toy_showers):
    _, voxels = toy_showers(irregular_mesh, 1, seed=1)
    view = side_view(voxels[0].astype(float), irregular_mesh)
    half = np.pi * np.diff(common_r_edges(irregular_mesh) ** 2) / 2
    areas = np.concatenate([half[::-1], half])
    expected = [voxels[0, place].sum() for place in irregular_mesh.layer_slices]
    np.testing.assert_allclose(view @ areas, expected, rtol=1e-5)


def test_above_and_below_the_axis(mesh):
    voxels = np.where(mesh.alpha_of_voxel > 0, 1.0, 0.0)
    view = side_view(voxels, mesh)
    assert (view[:, :3] == 0).all()
    assert (view[:, 3:] > 0).all()


def test_the_shower_of_the_nearest_energy_is_shown(mesh, toy_showers, write):
    energy, voxels = toy_showers(mesh, 50, seed=2)
    found = events(write("showers", mesh, energy, voxels), [energy[7] * 1.0001, energy[3]], threshold=0.0)
    np.testing.assert_allclose([event.incident_energy for event in found], energy[[7, 3]], rtol=1e-6)
    np.testing.assert_allclose(found[1].density, side_view(voxels[3].astype(float), mesh))
