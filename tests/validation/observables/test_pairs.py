"""What neighbours know of each other, against the definitions in plain loops."""

import numpy as np
import pytest

from caloforge.geometry import CylindricalGeometry, Layer, load_geometry
from caloforge.validation.observables.summary import summarise_voxels
from caloforge.validation.registries import OBSERVABLES

NAMES = ("layer_overlap", "sector_kept", "alpha_correlation", "ring_hits")


def columns(summary):
    return {name: OBSERVABLES.get(name).columns(summary) for name in NAMES}


def plain(voxels, geometry):
    """The columns of one shower."""
    images = [
        voxels[place].astype(float).reshape(layer.n_alpha, layer.n_r)
        for layer, place in zip(geometry.active_layers, geometry.layer_slices, strict=True)
    ]
    overlap, kept, products, square = [], [], 0.0, 0.0
    numbers = [image.shape[0] for image in images if image.shape[0] > 1]
    n_alpha = max(set(numbers), key=lambda n: (numbers.count(n), n))
    for i, image in enumerate(images):
        energy, sectors = image.sum(), image.sum(axis=1)
        if len(sectors) == n_alpha:
            square += energy**2
            products += np.array(
                [
                    sum(sectors[a] * sectors[(a + k) % n_alpha] for a in range(n_alpha))
                    for k in range(1, n_alpha // 2 + 1)
                ]
            )
        if i == 0:
            continue
        before, layers = images[i - 1], geometry.active_layers[i - 1 : i + 1]
        both = energy > 0 and before.sum() > 0
        if layers[0].r_edges == layers[1].r_edges and layers[0].n_alpha == layers[1].n_alpha and image.size > 1:
            overlap.append(np.sqrt(image * before / (energy * before.sum())).sum() if both else 0.0)
        if layers[0].n_alpha == layers[1].n_alpha > 1:
            kept.append(float(both and sectors.argmax() == before.sum(axis=1).argmax()))
    return {
        "layer_overlap": overlap,
        "sector_kept": [np.mean(kept)] if kept else [],
        "alpha_correlation": products / square if square else 0,
    }


TWO_KINDS = CylindricalGeometry(
    "two kinds", (Layer(0, (0.0, 5.0), 1), *(Layer(i, (0.0, 5.0, 10.0), 5) for i in (1, 2)), Layer(3, (0.0, 10.0), 5))
)


@pytest.mark.parametrize("name", ["mesh", "irregular_mesh", "two kinds"])
def test_they_follow_their_definitions(name, request, toy_showers):
    geometry = TWO_KINDS if name == "two kinds" else request.getfixturevalue(name)
    energy, voxels = toy_showers(geometry, 30, seed=1)
    voxels[0] = 0
    voxels[1, geometry.layer_slices[1]] = 0
    found = columns(summarise_voxels([voxels[:11], voxels[11:]], energy, geometry, threshold=0.1))
    for row, shower in enumerate(voxels):
        for key, values in plain(shower, geometry).items():
            np.testing.assert_allclose(found[key][row], values, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found["ring_hits"].sum(axis=1), (voxels > 0).sum(axis=1))


def test_hits_of_a_ring_are_spread_by_area():
    geometry = CylindricalGeometry("rings", (Layer(0, (0.0, 1.0, 3.0), 1), Layer(1, (0.0, 3.0), 2)))
    voxels = np.array([[0, 1, 1, 1], [1, 0, 0, 1]], np.float32)
    found = columns(summarise_voxels([voxels], np.ones(2), geometry))["ring_hits"]
    np.testing.assert_allclose(found, [[2 / 9, 1 + 16 / 9], [1 + 1 / 9, 8 / 9]])


def test_meshes_without_neighbours_have_none():
    plate = CylindricalGeometry("plate", (Layer(0, (0.0, 1.0, 2.0), 1),))
    row = CylindricalGeometry("row", tuple(Layer(i, (0.0, 1.0), 1) for i in range(4)))
    photons = load_geometry("dataset_1_photons")
    numbers = {
        geometry.name: [values.shape[1] for values in columns(
            summarise_voxels([np.ones((2, geometry.n_voxels), np.float32)], np.ones(2), geometry)
        ).values()]
        for geometry in (plate, row, photons)
    }  # fmt: skip
    assert numbers["plate"] == [0, 0, 0, 2]
    assert numbers["row"] == [0, 0, 0, 0]
    assert numbers["dataset_1_photons"][1:3] == [1, 5]


def test_each_column_has_a_name(mesh, toy_showers):
    energy, voxels = toy_showers(mesh, 5, seed=1)
    summary = summarise_voxels([voxels], energy, mesh)
    places = {name: OBSERVABLES.get(name).places(mesh, values.shape[1]) for name, values in columns(summary).items()}
    assert places["layer_overlap"] == ("layers", tuple(f"layer {i}" for i in range(1, 6)))
    assert places["alpha_correlation"] == ("distances", ("1 sector apart", "2 sectors apart"))
    assert places["ring_hits"][1][0] == "ring from 0 to 5 mm"
