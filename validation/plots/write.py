"""All plots of a validation, written as PNG for the report and as PDF for papers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from caloforge.validation.figures.key_figures import figures_in_bins
from caloforge.validation.judgement import Judgement
from caloforge.validation.observables.conditions import CONDITIONS, present
from caloforge.validation.observables.summary import Summary
from caloforge.validation.plots.cell_plots import cell_maps
from caloforge.validation.plots.condition_plots import fitted_terms, key_figure, response_in_ranges
from caloforge.validation.plots.distribution_plots import distribution, likelihood_distribution
from caloforge.validation.plots.events import Event
from caloforge.validation.plots.map_plots import correlations, images
from caloforge.validation.plots.panels import Samples
from caloforge.validation.plots.profile_plots import (
    group_spectra,
    lateral_profile,
    longitudinal_profile,
    profiles_in_ranges,
    voxel_spectrum,
)
from caloforge.validation.plots.roc_plot import roc_curves
from caloforge.validation.plots.shower_plots import event_display
from caloforge.validation.plots.style import save, style
from caloforge.validation.registries import KEY_FIGURES, OBSERVABLES
from caloforge.validation.row import HEADLINE, PHYSICS

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Plot:
    """A plot that was written.

    Attributes:
        path: the PNG; the PDF lies beside it.
        title: what it shows.
        group: heading of the report that it stands under.
        wide: whether it takes the width of the page.
    """

    path: Path
    title: str
    group: str
    wide: bool


@dataclass(frozen=True)
class _Drawn:
    """A figure on its way to the disk."""

    name: str
    title: str
    group: str
    figure: Figure


def write_plots(
    reference: Summary,
    generated: Mapping[str, Summary],
    metrics: Judgement,
    showers: Mapping[str, Sequence[Event]],
    folder: Path,
    *,
    residuals: Mapping[str, FloatArray],
) -> list[Plot]:
    """Draw everything and write it as PNG and PDF files.

    Args:
        reference: the Geant4 sample.
        generated: generator name to its sample.
        metrics: the judgement.
        showers: sample name to its single showers, the reference's first.
        folder: where the files go; it is made.
        residuals: sample name to how likely its showers are, in standard deviations, the reference's first; none of it
            where no likelihood was asked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples = Samples(reference, generated)
    written = []
    with style():
        for drawn in (
            *_profiles(samples, metrics),
            *_conditions(samples, metrics),
            *_distributions(samples),
            *_maps(samples, showers),
            *_classifier(samples, metrics),
            *_likelihood(samples, residuals),
        ):
            path = save(drawn.figure, folder, drawn.name)
            wide = drawn.figure.get_figwidth() > 6
            written.append(Plot(path, drawn.title, drawn.group, wide))
    return written


def _profiles(samples: Samples, metrics: Judgement) -> Iterator[_Drawn]:
    if samples.reference.geometry.n_layers > 1:
        for name, title, log in (
            ("longitudinal_profile", "Longitudinal profile", False),
            ("longitudinal_profile_log", "Longitudinal profile, log scale", True),
        ):
            yield _Drawn(name, title, "Profiles", longitudinal_profile(samples, log=log))
    radii = {
        f"$R_{{{name[1:]}}}$": radius
        for name, rows in metrics.table(PHYSICS).items()
        if name in ("r90", "r95") and (radius := next(iter(rows.values())).reference) is not None
    }
    if samples.reference.lateral is not None:
        yield _Drawn("lateral_profile", "Lateral profile", "Profiles", lateral_profile(samples, radii))
    yield _Drawn("voxel_spectrum", "Voxel energies", "Profiles", voxel_spectrum(samples))
    if samples.reference.geometry.n_layers > 1:
        yield _Drawn("voxel_spectrum_groups", "Voxel energies by layer", "Profiles", group_spectra(samples))


def _conditions(samples: Samples, metrics: Judgement) -> Iterator[_Drawn]:
    terms = fitted_terms(metrics.table(PHYSICS))
    kinds = ["longitudinal"] * (samples.reference.geometry.n_layers > 1)
    kinds += ["lateral"] * (samples.reference.lateral is not None)
    for condition, edges in present(samples.reference, list(samples.generated.values())).items():
        against = CONDITIONS[condition].title.lower()
        group = f"In bins of {against}"
        for name in figures_in_bins(samples.reference):
            title = f"{KEY_FIGURES.get(name).title} against {against}"
            yield _Drawn(f"{name}_{condition}", title, group, key_figure(samples, name, condition, edges, terms))
        if len(edges) < 3:
            continue
        title = f"Response in ranges of {against}"
        yield _Drawn(f"response_ranges_{condition}", title, group, response_in_ranges(samples, condition))
        for kind in kinds:
            title = f"{kind.title()} profile in ranges of {against}"
            yield _Drawn(f"{kind}_ranges_{condition}", title, group, profiles_in_ranges(samples, condition, kind))


def _distributions(samples: Samples) -> Iterator[_Drawn]:
    for name, observable in OBSERVABLES.items():
        if observable.columns(samples.reference).shape[1] > 0:
            yield _Drawn(name, observable.title, observable.group, distribution(samples, observable))


def _maps(samples: Samples, showers: Mapping[str, Sequence[Event]]) -> Iterator[_Drawn]:
    if samples.reference.geometry.n_layers > 1:
        yield _Drawn("correlations", "Correlations between layers", "Layers", correlations(samples))
    if samples.reference.image is not None and samples.reference.geometry.n_layers > 1:
        yield _Drawn("images", "Average shower, energy per area", "Average shower", images(samples))
    if samples.reference.cell_energy is not None:
        yield _Drawn("cells", "Average shower, energy per area", "Average shower", cell_maps(samples))
    yield _Drawn("showers", "Single showers", "Single showers", event_display(samples, showers))


def _classifier(samples: Samples, metrics: Judgement) -> Iterator[_Drawn]:
    first, *_ = metrics.generators.values()
    for key in first.rocs:
        rocs = {name: (one.rocs[key], metrics.row(name, HEADLINE, key)) for name, one in metrics.generators.items()}
        title = next(row.title for _, row in rocs.values())
        name = "roc" if key == "auc" else f"roc_{key.removeprefix('auc_')}"
        yield _Drawn(name, f"ROC: {title}", "Classifier", roc_curves(rocs, samples.note))


def _likelihood(samples: Samples, residuals: Mapping[str, FloatArray]) -> Iterator[_Drawn]:
    if residuals:
        title = "Log-likelihood at given incident energy"
        yield _Drawn("log_likelihood", title, "Likelihood", likelihood_distribution(samples, residuals))
