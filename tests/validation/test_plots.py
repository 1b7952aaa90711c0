import io

import numpy as np
import pytest

from caloforge.validation.histogram import energy_edges
from caloforge.validation.plots import (
    correlations,
    empty_layers_against_energy,
    images,
    lateral_profile,
    maximum_against_energy,
    resolution_against_energy,
    response_against_energy,
    voxel_spectrum,
)
from caloforge.validation.summary import summarise_voxels


@pytest.mark.parametrize(
    "draw",
    [
        response_against_energy,
        resolution_against_energy,
        lateral_profile,
        voxel_spectrum,
        images,
        empty_layers_against_energy,
        maximum_against_energy,
        correlations,
    ],
)
def test_unlike_layers_one_energy_and_an_empty_sample_can_be_drawn(draw, irregular_mesh, toy_showers):
    energy, voxels = toy_showers(irregular_mesh, 60, seed=1)
    energy[:] = 5000
    reference = summarise_voxels([voxels], energy, irregular_mesh)
    empty = summarise_voxels([np.zeros_like(voxels)], energy, irregular_mesh)
    arguments = () if draw in (images, correlations) else ("note",)
    draw(reference, {"_$odd name": empty}, *arguments).savefig(io.BytesIO(), dpi=40)


def test_few_energies_get_a_bin_each():
    edges = energy_edges(np.asarray([1000.0, 4000.0, 4000.0, 16000.0]))
    np.testing.assert_allclose(edges, [500, 2000, 8000, 32000])
    counts, _ = np.histogram([1000, 4000, 4000, 16000], edges)
    assert counts.tolist() == [1, 2, 1]


def test_a_spectrum_of_energies_gets_eight_bins_that_hold_all():
    energies = np.geomspace(1000, 100_000, 500)
    counts, edges = np.histogram(energies, energy_edges(energies))
    assert len(edges) == 9
    assert counts.sum() == 500
