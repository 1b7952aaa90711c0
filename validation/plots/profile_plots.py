"""Plots of mean profiles: along the shower, across it, and the spectrum of its voxels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from caloforge.validation.observables.conditions import inside, ranges
from caloforge.validation.observables.histogram import Curve
from caloforge.validation.observables.summary import SPECTRUM_EDGES, Profile, Summary, layer_groups, layer_range
from caloforge.validation.plots.panels import Axis, Panel, Samples

FloatArray = NDArray[np.float64]


def longitudinal_profile(samples: Samples, *, log: bool = False) -> Figure:
    """Draw the mean energy of each layer."""
    axis = Axis("Layer", "Mean energy [MeV]", log_y=log, whole=True)
    return samples.draw(axis, samples.panel(_layer_edges(samples), lambda s: _mean(s.layer_energy)))


def lateral_profile(samples: Samples, radii: dict[str, float] | None = None) -> Figure:
    """Draw the mean energy per area against the distance from the axis.

    Args:
        samples: what is compared.
        radii: label to r in mm that is marked.
    """
    axis = Axis("$r$ [mm]", "Mean energy per area [MeV/mm²]", log_y=True)

    def curve(summary: Summary) -> Curve:
        assert summary.lateral is not None, "of rings"
        return Curve(summary.lateral.mean, summary.lateral.error)

    return samples.draw(axis, samples.panel(_r_edges(samples), curve, marks=radii))


def profiles_in_ranges(samples: Samples, condition: str, kind: str) -> Figure:
    """Draw a mean profile in up to three ranges of a condition beside each other.

    Args:
        samples: what is compared.
        condition: name in :data:`caloforge.validation.figures.key_figures.CONDITIONS`.
        kind: ``longitudinal`` or ``lateral``.
    """
    if kind == "longitudinal":
        axis, edges = Axis("Layer", "Mean energy [MeV]", log_y=True, whole=True), _layer_edges(samples)
    else:
        axis = Axis("$r$ [mm]", "Mean energy per area [MeV/mm²]", log_y=True)
        edges = _r_edges(samples)

    def panel(title: str, low: float, high: float) -> Panel:
        def curve(summary: Summary) -> Curve:
            rows = inside(summary, condition, low, high)
            if kind == "longitudinal":
                return _mean(summary.layer_energy[rows])
            return _mean(summary.ring_energy[rows] / (np.pi * np.diff(edges**2)))

        return samples.panel(edges, curve, title=title)

    return samples.draw(axis, *(panel(*limits) for limits in ranges(samples.reference, condition)))


def voxel_spectrum(samples: Samples) -> Figure:
    """Draw the mean number of voxels per shower against voxel energy."""
    axis = Axis("Voxel energy [MeV]", "Voxels per shower", log_x=True, log_y=True)
    return samples.draw(axis, _spectrum(samples, lambda s: s.spectrum))


def group_spectra(samples: Samples) -> Figure:
    """Draw the voxel spectrum of each group of layers."""
    axis = Axis("Voxel energy [MeV]", "Voxels per shower", log_x=True, log_y=True)
    panels = []
    for i, group in enumerate(layer_groups(samples.reference.geometry)):

        def profile(summary: Summary, i: int = i) -> Profile:
            spectra = summary.group_spectra
            return Profile(spectra.edges, spectra.mean[i], spectra.error[i])

        panels.append(_spectrum(samples, profile, title=layer_range(group)))
    return samples.draw(axis, *panels)


def _layer_edges(samples: Samples) -> FloatArray:
    return np.arange(samples.reference.geometry.n_layers + 1, dtype=np.float64) - 0.5


def _r_edges(samples: Samples) -> FloatArray:
    assert samples.reference.lateral is not None, "of rings"
    return samples.reference.lateral.edges


def _mean(values: FloatArray) -> Curve:
    """Return the mean of (n, B) values over showers and its error; NaN with fewer than two."""
    if len(values) < 2:
        return Curve(*np.full((2, values.shape[1]), np.nan))
    return Curve(values.mean(axis=0), values.std(axis=0) / np.sqrt(len(values)))


def _spectrum(samples: Samples, profile: Callable[[Summary], Profile], title: str = "") -> Panel:
    """Return the panel of a spectrum over the bins that any sample fills."""
    both = [profile(s).mean > 0 for s in (samples.reference, *samples.generated.values())]
    filled = np.flatnonzero(np.any(both, axis=0))
    used = slice(filled[0], filled[-1] + 1) if len(filled) else slice(0, 1)
    edges = SPECTRUM_EDGES[used.start : used.stop + 1]
    return samples.panel(edges, lambda s: Curve(profile(s).mean[used], profile(s).error[used]), title=title)
