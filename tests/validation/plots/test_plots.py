import io

import numpy as np
import pytest

from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.validation.figures.key_figures import figures_in_bins
from caloforge.validation.observables.conditions import present
from caloforge.validation.observables.histogram import Curve, angle_edges, energy_edges
from caloforge.validation.observables.summary import summarise_voxels
from caloforge.validation.plots.condition_plots import key_figure, response_in_ranges
from caloforge.validation.plots.events import Event, front_view, points, side_view
from caloforge.validation.plots.map_plots import correlations, images
from caloforge.validation.plots.panels import Samples, pull
from caloforge.validation.plots.profile_plots import (
    group_spectra,
    lateral_profile,
    longitudinal_profile,
    profiles_in_ranges,
    voxel_spectrum,
)
from caloforge.validation.plots.shower_plots import event_display
from caloforge.validation.plots.style import save, style

pytestmark = pytest.mark.slow


def key_figures_against_energy(samples):
    edges = present(samples.reference, list(samples.generated.values()))["energy"]
    names = figures_in_bins(samples.reference)
    assert "shower_maximum" not in names
    return [key_figure(samples, name, "energy", edges) for name in names][-1]


@pytest.mark.parametrize(
    "draw",
    [
        longitudinal_profile,
        lateral_profile,
        voxel_spectrum,
        group_spectra,
        images,
        correlations,
        key_figures_against_energy,
        lambda samples: profiles_in_ranges(samples, "energy", "lateral"),
        lambda samples: response_in_ranges(samples, "energy"),
    ],
)
def test_unlike_layers_one_energy_and_an_empty_sample_can_be_drawn(draw, irregular_mesh, toy_showers):
    energy, voxels = toy_showers(irregular_mesh, 60, seed=1)
    energy[:] = 5000
    reference = summarise_voxels([voxels], energy, irregular_mesh)
    empty = summarise_voxels([np.zeros_like(voxels)], energy, irregular_mesh)
    with style():
        draw(Samples(reference, {"_$odd name": empty})).savefig(io.BytesIO(), dpi=40)


def test_ranges_of_an_angle_stand_beside_each_other(mesh, toy_showers):
    energy, voxels = toy_showers(mesh, 90, seed=2)
    theta = np.linspace(1, 2, 90)
    summary = summarise_voxels([voxels], energy, mesh, theta=theta)
    figure = profiles_in_ranges(Samples(summary, {"other": summary}), "theta", "longitudinal")
    assert len(figure.axes) == 9  # three ranges of curves, ratio and pull
    assert len(figure.legends) == 1


def test_a_single_layer_is_shown_from_the_front(toy_showers):
    flat = CylindricalGeometry("flat", (Layer(0, (2.0, 5.0, 10.0), 6),))
    energy, voxels = toy_showers(flat, 1, seed=3)
    shower = voxels[0].astype(float)
    event = Event(energy[0], side_view(shower, flat), front_view(shower, flat), points(shower, flat))
    summary = summarise_voxels([voxels], energy, flat)
    figure = event_display(Samples(summary, {}), {"Geant4": [event]})
    assert figure.axes[0].get_xlabel() == "$x$ [mm]"
    area = np.pi * np.diff(np.asarray(flat.layers[0].r_edges) ** 2) / 66
    assert (event.front * area).sum() == pytest.approx(shower.sum(), rel=1e-6)


def test_a_plot_is_saved_as_png_and_as_the_same_pdf_each_time(mesh, toy_showers, tmp_path):
    energy, voxels = toy_showers(mesh, 50, seed=4)
    summary = summarise_voxels([voxels], energy, mesh)
    written = []
    for _ in range(2):
        with style():
            path = save(longitudinal_profile(Samples(summary, {})), tmp_path, "profile")
        assert path.read_bytes().startswith(b"\x89PNG")
        written.append(path.with_suffix(".pdf").read_bytes())
    assert written[0].startswith(b"%PDF")
    assert written[0] == written[1]


def test_a_pull_has_both_errors_and_none_without():
    found = pull(Curve(np.asarray([3.0, 1.0]), np.asarray([0.3, 0.0])), Curve(np.ones(2), np.asarray([0.4, 0.0])))
    np.testing.assert_allclose(found, [4, np.nan])


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


def test_angles_get_a_bin_each_or_eight_that_hold_all():
    np.testing.assert_allclose(angle_edges(np.asarray([0.5, 0.7, 0.7, 1.1])), [0.4, 0.6, 0.9, 1.3])
    angles = np.linspace(-3, 3, 100)
    counts, edges = np.histogram(angles, angle_edges(angles))
    assert len(edges) == 9
    assert counts.sum() == 100
