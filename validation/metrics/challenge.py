"""The CaloChallenge protocol: its thresholds, binnings and samplings, as its script has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import InputError
from caloforge.geometry import CylindricalGeometry, Geometry, Layer, load_geometry
from caloforge.validation.metrics.classifier import classifier_auc
from caloforge.validation.metrics.compare import Comparison, distances
from caloforge.validation.metrics.frechet import challenge_fpd
from caloforge.validation.metrics.kernel import BATCH_SIZE, kpd
from caloforge.validation.metrics.prdc import log_voxels, prdc
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.sample import Sample
from caloforge.validation.metrics.separation import separation_of_histograms, separation_of_profiles
from caloforge.validation.metrics.training import Training
from caloforge.validation.observables.per_shower import response
from caloforge.validation.observables.summary import Summary, voxel_histogram
from caloforge.validation.registries import DISTRIBUTION_METRICS, OBSERVABLES

FloatArray = NDArray[np.float64]

THRESHOLDS = {
    "dataset_1_photons": 1.0,
    "dataset_1_pions": 1.0,
    "dataset_2": 0.5e-3 / 0.033,
    "dataset_3": 0.5e-3 / 0.033,
}
"""MeV; voxels below it count as empty in both samples."""

SPLITS = {
    "dataset_1_photons": (80_000, 20_000, 21_000),
    "dataset_1_pions": (80_000, 20_000, 20_800),
    "dataset_2": (60_000, 20_000, 20_000),
    "dataset_3": (60_000, 20_000, 20_000),
}
"""Showers of each kind that a neural classifier learns from, is chosen by and is judged on."""


def dataset_of(geometry: Geometry) -> str:
    """Return the dataset of CaloChallenge that has this mesh, whatever the geometry is called.

    Raises:
        InputError: none has, so that the protocol says nothing about it.
    """
    for name in THRESHOLDS:
        if load_geometry(name).difference(geometry) is None:
            return name
    msg = (
        f"geometry {geometry.name!r} is none of CaloChallenge's ({', '.join(THRESHOLDS)}), so its protocol has no "
        "binnings and no threshold for it; use the quick protocol"
    )
    raise InputError(msg)


def compare_challenge(reference: Sample, generated: Sample, *, seed: int, repeats: int = 1) -> Comparison:
    """Return the metrics of CaloChallenge of ``generated`` against ``reference``.

    ``seed`` is only the classifiers': FPD and KPD have the seeds that the challenge published with.
    ``repeats`` is how often each neural classifier is trained; 0 leaves them out.
    """
    x, y = reference.features, generated.features
    features = {
        "auc": classifier_auc(x, y, seed=seed),
        "fpd": challenge_fpd(x, y),
        "kpd": replace(kpd(x, y), sampling=kpd(x, y, batch_size=len(x)).error if len(x) < BATCH_SIZE else 0.0),
        **prdc(log_voxels(reference.voxels()), log_voxels(generated.voxels())),
    }
    if repeats:
        from caloforge.validation.metrics.challenge_classifiers import classifier_results  # torch takes its time

        training = Training(split=SPLITS[dataset_of(reference.summary.geometry)], repeats=repeats)
        features |= classifier_results(reference, generated, training=training, seed=seed)
    return Comparison(
        features,
        {
            "separation": separations(reference, generated),
            "wasserstein": distances(DISTRIBUTION_METRICS.get("wasserstein"), reference.summary, generated.summary),
        },
    )


def separations(reference: Sample, generated: Sample) -> dict[str, Result]:
    """Return the separation power of each observable of the challenge in its published binning.

    What lies outside a range is dropped and the rest is scaled to 1, as the script does. Sparsity
    and the centre and width in r are what its functions for them compute, which it never calls.
    """
    geometry, threshold = reference.summary.geometry, reference.summary.threshold
    dataset = dataset_of(geometry)
    assert isinstance(geometry, CylindricalGeometry), "as all of CaloChallenge's are"
    x, y = _columns("layer_energy", reference), _columns("layer_energy", generated)
    by_layer = [_energy_edges(threshold, x[:, i], y[:, i], 40) for i in range(geometry.n_layers)]
    whole = [np.linspace(0.5, 1.5, 101)]
    found = {
        "response": _separation(_columns("response", reference), _columns("response", generated), whole),
        "layer_energy": _separation(x, y, by_layer),
    }
    for name, binning in RANGES.items():
        layers = OBSERVABLES.get(name).layers
        assert layers is not None
        edges = [binning.edges(geometry.active_layers[i], dataset) for i in layers(geometry)]
        found[name] = _separation(_columns(name, reference), _columns(name, generated), edges)
    found = {
        name: replace(result, places=OBSERVABLES.get(name).places(geometry, len(result.parts) or 1))
        for name, result in found.items()
    }
    found["voxel_energy"] = _voxel_separation(reference, generated)
    if dataset.startswith("dataset_1"):
        found["response_by_energy"] = _by_energy(reference, generated, narrow=dataset.endswith("photons"))
    return found


@dataclass(frozen=True)
class _Range:
    """Where the bins of an observable lie in the layers of both kinds of dataset.

    Attributes:
        n: number of edges.
        ordinary: upper end in dataset 1, mm.
        wide: upper end in its layers of ``wide_layers``.
        regular: upper end in datasets 2 and 3.
        wide_layers: ids of layers of dataset 1.
        both_sides: whether the range begins at minus the upper end; otherwise at 0.
    """

    n: int
    ordinary: float
    wide: float
    regular: float
    wide_layers: tuple[int, ...] = (12, 13)
    both_sides: bool = False

    def edges(self, layer: Layer, dataset: str) -> FloatArray:
        high = self.regular if dataset in ("dataset_2", "dataset_3") else self.ordinary
        if dataset.startswith("dataset_1") and layer.id in self.wide_layers:
            high = self.wide
        return np.linspace(-high if self.both_sides else 0.0, high, self.n)


RANGES = {
    "centre_eta": _Range(101, 100, 500, 30, both_sides=True),
    "centre_phi": _Range(101, 100, 500, 30, both_sides=True),
    "width_eta": _Range(101, 100, 400, 30),
    "width_phi": _Range(101, 100, 400, 30),
    "sparsity": _Range(21, 1, 1, 1),
    "centre_r": _Range(101, 500, 1500, 42, wide_layers=(12, 13, 14)),
    "width_r": _Range(101, 500, 1500, 20, wide_layers=(12, 13, 14)),
}
"""Binnings of the observables that have a fixed one in each layer."""


def _columns(name: str, sample: Sample) -> FloatArray:
    return OBSERVABLES.get(name).columns(sample.summary)


def _separation(x: FloatArray, y: FloatArray, edges: Sequence[FloatArray]) -> Result:
    """Return the mean over columns of the separation power of (N, columns) values."""
    rows = [_in_range(x[:, i], y[:, i], edges[i]) for i in range(len(edges))]
    values, errors = (tuple(column) for column in zip(*rows, strict=True))
    several = len(rows) > 1
    return Result(
        float(np.mean(values)),
        float(np.mean(errors)),
        n=len(x),
        parts=values if several else (),
        part_errors=errors if several else (),
    )


def _in_range(x: FloatArray, y: FloatArray, edges: FloatArray) -> tuple[float, float]:
    """Return separation power and error of what lies within the edges; an empty side counts as no bins."""
    counts = [np.histogram(values, edges)[0].astype(np.float64) for values in (x, y)]
    totals = [max(c.sum(), 1.0) for c in counts]
    h1, h2 = (c / total for c, total in zip(counts, totals, strict=True))
    return separation_of_histograms(h1, h2, h1 / totals[0], h2 / totals[1])


def _energy_edges(threshold: float, x: FloatArray, y: FloatArray, n: int) -> FloatArray:
    """Return n logarithmic edges from the threshold to the reference's largest energy.

    Of a layer that is empty in all of the reference, which the script cannot bin, the generated
    sample sets the end.
    """
    high = max(x.max(), y.max()) if x.max() <= threshold else x.max()
    return np.logspace(np.log10(threshold), np.log10(max(high, threshold * 1.001)), n)


def _by_energy(reference: Sample, generated: Sample, *, narrow: bool) -> Result:
    """Return the separation of the response at each of dataset 1's 15 incident energies.

    For photons the range is narrower from the fifth energy on.
    """
    energies = 2.0 ** np.arange(8, 24)
    rows = []
    for i in range(15):
        edges = np.linspace(0.9, 1.1, 21) if narrow and i > 3 else np.linspace(0.4, 1.4, 21)
        x, y = (_response_between(sample.summary, energies[i], energies[i + 1]) for sample in (reference, generated))
        rows.append(_in_range(x, y, edges))
    values, errors = (tuple(column) for column in zip(*rows, strict=True))
    names = tuple(f"{low / 1000:.3g} to {high / 1000:.3g} GeV" for low, high in pairwise(energies[:16].tolist()))
    return Result(
        float(np.mean(values)), float(np.mean(errors)), n=len(reference.summary), parts=values, part_errors=errors,
        places=("energies", names),
    )  # fmt: skip


def _response_between(summary: Summary, low: float, high: float) -> FloatArray:
    inside = (summary.incident_energy >= low) & (summary.incident_energy < high)
    return response(summary)[inside]


def _voxel_separation(reference: Sample, generated: Sample) -> Result:
    threshold, hottest = reference.summary.threshold, reference.summary.hottest_voxel
    edges = _energy_edges(threshold, hottest, generated.summary.hottest_voxel, 50)
    spectra = (voxel_histogram(s.showers, edges, threshold=threshold) for s in (reference, generated))
    return separation_of_profiles(*spectra, n=len(hottest))
