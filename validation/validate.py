"""The validation step: judge generated showers against Geant4 and write metrics, plots and report."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from caloforge.errors import InputError
from caloforge.files import atomic_directory, write_json
from caloforge.geometry import Geometry
from caloforge.provenance import provenance
from caloforge.showers import Showers
from caloforge.source import Source
from caloforge.steps import step
from caloforge.validation.conditioning import conditioning
from caloforge.validation.events import events, typical_energies
from caloforge.validation.histogram import energy_edges
from caloforge.validation.impact import expect_centres
from caloforge.validation.key_figures import in_bins
from caloforge.validation.leaderboard import leaderboard
from caloforge.validation.memorisation import memorisation
from caloforge.validation.metrics import Comparison, Sample
from caloforge.validation.physics import (
    FIGURES,
    Figures,
    correlation_difference,
    figures,
    profile_shift,
    repeated_showers,
)
from caloforge.validation.plot_style import REFERENCE
from caloforge.validation.plots import write_plots
from caloforge.validation.registries import PROTOCOLS
from caloforge.validation.report import write_report
from caloforge.validation.result import Result
from caloforge.validation.significance import LARGEST, either_way
from caloforge.validation.summary import Summary, layer_groups, layer_range, summarise
from caloforge.validation.tables import summary_markdown, tables_csv
from caloforge.validation.verdict import overall, verdict

logger = logging.getLogger(__name__)

SCHEMA = 1
FEWEST = 50
MOST_COPIES = 0.01
"""Share of the reference's showers that may be in the training sample by chance, empty ones for example."""


def validate(
    reference: Showers,
    generated: Mapping[str, Showers],
    output: Path,
    *,
    floor: Showers | None = None,
    training: Showers | None = None,
    timings: Mapping[str, float] | None = None,
    protocol: str = "quick",
    seed: int = 0,
    failed: Mapping[str, str] | None = None,
    source: Source | None = None,
) -> dict[str, Any]:
    """Compare samples with the reference and write ``metrics.json``, ``report.html`` and ``plots/``.

    Beside them ``summary.md`` and ``tables.csv`` hold the same figures for notes and spreadsheets.

    Every comparison is made with the same number of showers: the smallest sample's. The floor is
    the value that each metric takes between two samples of Geant4 of that size.

    Args:
        reference: Geant4 showers.
        generated: generator name to its showers, one per incident energy of the reference.
        output: folder to write; it appears only when complete.
        floor: a second sample of Geant4; without it the reference is halved at random, which
            halves the number of showers that everything is compared with.
        training: what the generators were trained on; with it, showers that repeat it are found.
        timings: generator name to milliseconds per shower.
        protocol: name in :data:`caloforge.validation.registries.PROTOCOLS`.
        seed: of the random choices.
        failed: generators that there is nothing of to judge, and why; report and leaderboard name them.
        source: where the Geant4 showers came from; report and leaderboard say it.

    Returns:
        The content of ``metrics.json``.

    Raises:
        InputError: there is no such protocol, or it says nothing about the geometry; a sample is too small, has other voxels or units than the reference, or holds
            energies that are no energies.
    """
    rules = PROTOCOLS.get(protocol)
    with step("validate"):
        clock = _Clock()
        timings = dict(timings or {})
        if not generated:
            raise InputError("validate: no generated sample given")
        others = dict(generated) if floor is None else {**generated, "second Geant4 sample": floor}
        if training is not None:
            others["training sample"] = training
        _check_sizes(reference, others, halved=floor is None)
        _check_geometries(reference, others)
        _check_units(reference, others)
        _check_timings(timings)
        samples = _choose(reference, generated, floor, seed=seed)
        threshold = rules.threshold((reference, *others.values()))
        logger.info(
            "validate: %d showers of each sample, %d voxels, threshold %.4g MeV",
            len(samples.reference), reference.geometry.n_voxels, threshold,
        )  # fmt: skip
        truth, second, judged = _summarised(samples, threshold)
        summaries = {name: sample.summary for name, sample in judged.items()}
        clock.lap("read")
        logger.info("validate: comparing Geant4 with itself")
        floors = rules.compare(truth, second, seed=seed)
        comparisons = {}
        for name, sample in judged.items():
            logger.info("validate: comparing %s with Geant4", name)
            comparisons[name] = rules.compare(truth, sample, seed=seed)
        metrics: dict[str, Any] = {
            "protocol": {"name": protocol, "description": rules.description},
            "n": len(truth.summary),
            "reference": {"file": reference.path.name, "showers": len(reference)},
            "floor": {
                "kind": "halves of the reference" if floor is None else "second sample",
                "file": (reference if floor is None else floor).path.name,
            },
            "geometry": reference.geometry.name,
            "threshold_mev": threshold,
            "source": None if source is None else source.as_dict(),
            "warnings": _energy_warnings(truth.summary, summaries),
            "failed": dict(failed or {}),
            "generators": {
                name: _as_json(comparison, floors, timings.get(name), reference.geometry)
                for name, comparison in comparisons.items()
            },
            "physics": _physics(truth.summary, second.summary, summaries, seed=seed),
            "in_bins": in_bins(truth.summary, second.summary, summaries),
            "provenance": provenance(
                inputs={
                    "reference": reference.path,
                    **{name: s.path for name, s in others.items() if s.path != reference.path},
                },
                seed=seed,
            ),
        }
        if source is not None and not source.sha256:  # of a path: it was summed just now
            checksum = metrics["provenance"]["inputs"]["reference"]["sha256"]
            metrics["source"] = replace(source, sha256=checksum).as_dict()
        if training is not None:
            logger.info("validate: comparing with the training sample")
            found = memorisation(training, truth, second, judged, seed=seed)
            metrics["physics"] |= found
            metrics["warnings"] += _overlap_warnings(found["memorisation"]["reference_copies"], training)
        for name, record in metrics["generators"].items():
            record["verdict"] = verdict(metrics, name)
        metrics = {"schema": SCHEMA, "verdict": overall(metrics, leaderboard(metrics)["winner"]), **metrics}
        logger.info("validate: %s", metrics["verdict"]["sentence"])
        clock.lap("compare")
        logger.info("validate: drawing")
        energies = typical_energies(samples.reference)
        shown = {
            name: events(showers, energies, threshold=threshold)
            for name, showers in {REFERENCE: samples.reference, **samples.generated}.items()
        }
        with atomic_directory(output) as folder:
            plots = write_plots(truth.summary, summaries, metrics, shown, folder / "plots")
            clock.lap("draw")
            metrics["seconds"] = clock.seconds
            write_report(metrics, plots, shown, reference.geometry, folder / "report.html")
            (folder / "summary.md").write_text(summary_markdown(metrics))
            (folder / "tables.csv").write_text(tables_csv(metrics))
            write_json(folder / "metrics.json", metrics)
        return metrics


class _Clock:
    """Keep the seconds of the parts of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    def lap(self, name: str) -> None:
        """Say what was done since the last time."""
        now = time.perf_counter()
        self.seconds[name], self._start = round(now - self._start, 3), now


@dataclass(frozen=True)
class _Samples:
    """The rows that are compared, the same number of each."""

    reference: Showers
    floor: Showers
    generated: Mapping[str, Showers]


def _summarised(samples: _Samples, threshold: float) -> tuple[Sample, Sample, dict[str, Sample]]:
    """Read all samples once; return the reference, the floor and the generated ones with their summaries."""
    others = {"": samples.floor, **samples.generated}
    found = {name: summarise(showers, threshold=threshold) for name, showers in others.items()}
    truth, found = expect_centres(summarise(samples.reference, threshold=threshold), found)
    judged = {name: Sample(showers, found[name]) for name, showers in others.items()}
    return Sample(samples.reference, truth), judged.pop(""), judged


def _choose(reference: Showers, generated: Mapping[str, Showers], floor: Showers | None, *, seed: int) -> _Samples:
    """Take the same number of rows of every sample, at random where a sample has more.

    A generated sample as long as the reference has the reference's incident energies row by row,
    so the same rows of it are taken.
    """
    available = [len(reference) // 2] if floor is None else [len(reference), len(floor)]
    n = min(*available, *(len(showers) for showers in generated.values()))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(reference))

    def pick(showers: Showers) -> Showers:
        rows = order[:n] if len(showers) == len(reference) else rng.permutation(len(showers))[:n]
        return showers.select(np.sort(rows))

    return _Samples(
        reference=pick(reference),
        floor=reference.select(np.sort(order[n : 2 * n])) if floor is None else pick(floor),
        generated={name: pick(showers) for name, showers in generated.items()},
    )


def _check_sizes(reference: Showers, samples: Mapping[str, Showers], *, halved: bool) -> None:
    fewest = 2 * FEWEST if halved else FEWEST
    if len(reference) < fewest:
        why = ", because it is halved to find the floor" if halved else ""
        raise InputError(f"{reference.path}: {len(reference)} showers; the reference needs {fewest} or more{why}")
    for name, showers in samples.items():
        if len(showers) < FEWEST:
            raise InputError(f"{showers.path} ({name}): {len(showers)} showers; a sample needs {FEWEST} or more")


def _check_timings(timings: Mapping[str, float]) -> None:
    for name, value in timings.items():
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"timings: {name}: expected milliseconds per shower, got {value}")


def _check_geometries(reference: Showers, samples: Mapping[str, Showers]) -> None:
    for name, showers in samples.items():
        _check_geometry(reference, showers, name)


def _check_geometry(reference: Showers, showers: Showers, name: str) -> None:
    ours, theirs = reference.geometry, showers.geometry
    if ours.n_voxels != theirs.n_voxels:
        msg = (
            f"{showers.path} ({name}): {theirs.n_voxels} voxels (geometry {theirs.name!r}), but the reference "
            f"{reference.path} has {ours.n_voxels} ({ours.name!r}); they must have the same geometry"
        )
        raise InputError(msg)
    for i, (a, b) in enumerate(zip(ours.active_layers, theirs.active_layers, strict=False)):
        if (a.r_edges, a.n_alpha) != (b.r_edges, b.n_alpha):
            msg = (
                f"{showers.path} ({name}): layer {i} has {b.n_alpha} alpha bins and r edges {b.r_edges} mm, but the "
                f"reference's has {a.n_alpha} and {a.r_edges}; give both files the same geometry"
            )
            raise InputError(msg)


def _check_units(reference: Showers, samples: Mapping[str, Showers]) -> None:
    """Refuse samples whose response or incident energies differ as GeV differ from MeV.

    Looks at the first showers only, before any threshold is applied.
    """
    expected = _mean_energies(reference)
    for name, showers in samples.items():
        for what, found in _mean_energies(showers).items():
            ratio = found / expected[what] if expected[what] > 0 else 1.0
            if any(factor / 3 < ratio < factor * 3 for factor in (1e-3, 1e3)):
                msg = (
                    f"{showers.path} ({name}): mean {what} is {found:.4g}, but {expected[what]:.4g} in "
                    f"{reference.path}: a factor of about 1000, as if GeV and MeV were mixed up; "
                    "all energies must be in MeV"
                )
                raise InputError(msg)


def _mean_energies(showers: Showers) -> dict[str, float]:
    voxels = next(showers.chunks())
    energy = showers.conditions.incident_energy
    total = voxels.sum(axis=1, dtype=np.float64)
    return {"E_tot/E_inc": float((total / energy[: len(total)]).mean()), "incident energy": float(energy.mean())}


def _energy_warnings(truth: Summary, summaries: Mapping[str, Summary]) -> list[str]:
    """Say which samples have other incident energies: then differences are not the generator's."""
    found = []
    for name, summary in summaries.items():
        if ks_2samp(truth.incident_energy, summary.incident_energy, method="asymp").pvalue < 1e-4:
            text = (
                f"{name}: its incident energies are distributed differently from the reference's; "
                "generate it with the reference's incident energies"
            )
            logger.warning("validate: %s", text)
            found.append(text)
    return found


def _overlap_warnings(copies: float, training: Showers) -> list[str]:
    """Say if the reference was trained on: then nothing about memorisation can be said."""
    if copies <= MOST_COPIES:
        return []
    text = (
        f"{100 * copies:.0f} % of the reference's showers are in the training sample {training.path.name}: they are not "
        "held out, so that memorisation goes unseen"
    )
    logger.warning("validate: %s", text)
    return [text]


def _physics(truth: Summary, second: Summary, summaries: Mapping[str, Summary], *, seed: int) -> dict[str, Any]:
    """Return the physics figures of all samples that the reference has, and the difference of correlations."""
    edges = energy_edges(truth.incident_energy)
    reference, floor = (figures(summary, edges, seed=seed) for summary in (truth, second))
    others = {name: figures(summary, edges, seed=seed) for name, summary in summaries.items()}
    table: dict[str, Any] = {}
    for key, figure in FIGURES.items():
        if not all(math.isfinite(x) for f in (reference, floor) for x in (f.value[key], f.error[key])):
            continue
        table[key] = {
            "title": figure.title,
            "unit": figure.unit,
            "tested": figure.tested,
            "value": reference.value[key],
            "error": reference.error[key],
            "floor": _figure(floor, reference, key),
            "generators": {name: _figure(other, reference, key) for name, other in others.items()},
        }
    table["layer_correlation"] = _pairwise(
        "Correlations between layers, r.m.s. difference",
        Result(0.0, 0.0, n=len(truth)),
        correlation_difference(truth, second),
        {name: correlation_difference(truth, summary) for name, summary in summaries.items()},
    )
    table["repeated_showers"] = _pairwise(
        "Showers that repeat another",
        repeated_showers(truth),
        repeated_showers(second),
        {name: repeated_showers(summary) for name, summary in summaries.items()},
    )
    table |= conditioning(truth, second, summaries, edges, seed=seed)
    table["layer_profile"] = {
        "title": "Energies of the layers at given incident energy, r.m.s. difference in std. dev.",
        "unit": "",
        "tested": True,
        "value": 0.0,
        "error": 0.0,
        "floor": asdict(profile_shift(truth, second)),
        "generators": {name: asdict(profile_shift(truth, summary)) for name, summary in summaries.items()},
    }
    return table


def _pairwise(title: str, reference: Result, floor: Result, others: Mapping[str, Result]) -> dict[str, Any]:
    """Return an entry of the physics figures whose distances are counted from the floor."""
    return {
        "title": title,
        "unit": "",
        "tested": True,
        "value": reference.value,
        "error": reference.error,
        "floor": {"value": floor.value, "error": floor.error, "sigma": 0.0},
        "generators": {
            name: {"value": result.value, "error": result.error, "sigma": result.sigma_from(floor)}
            for name, result in others.items()
        },
    }


def _figure(figures: Figures, reference: Figures, key: str) -> dict[str, float | None]:
    """Return a figure and its distance from the reference's; one that is undefined is as far as can be."""
    value, error = figures.value[key], figures.error[key]
    if not (math.isfinite(value) and math.isfinite(error)):
        return {"value": None, "error": None, "sigma": LARGEST, "ratio": None, "ratio_error": None}
    spread = math.hypot(error, reference.error[key])
    difference = value - reference.value[key]
    sigma = either_way(difference / spread) if spread > 0 else LARGEST * (difference != 0)
    ratio = ratio_error = None
    if (truth := reference.value[key]) > 0:
        ratio = value / truth
        ratio_error = math.hypot(error, ratio * reference.error[key]) / truth
    return {"value": value, "error": error, "sigma": sigma, "ratio": ratio, "ratio_error": ratio_error}


def _as_json(
    comparison: Comparison, floors: Comparison, milliseconds: float | None, geometry: Geometry
) -> dict[str, Any]:
    sigmas = comparison.sigmas_from(floors)
    record: dict[str, Any] = {
        name: {**_entry(result, floors.headline[name]), "sigma": sigmas[name]}
        for name, result in comparison.headline.items()
    }
    for metric, results in comparison.distributions.items():
        record[metric] = {}
        for key, result in results.items():
            floor = floors.distributions[metric][key]
            entry = {**_entry(result, floor), "sigma": result.sigma_from(floor)}
            if key == "voxel_energy_groups":
                entry["worst_group"] = layer_range(layer_groups(geometry)[result.worst_part(floor)]).lower()
            elif len(result.parts) in (geometry.n_layers, len(geometry.alpha_layers)) and key != "response_by_energy":
                part = result.worst_part(floor)
                entry["worst_layer"] = geometry.alpha_layers[part] if key.endswith(("eta", "phi")) else part
            record[metric][key] = entry
    curves = {
        name: {key: list(getattr(result.roc, key)) for key in ("fpr", "tpr", "thresholds")}
        for name, result in comparison.features.items()
        if result.roc is not None
    }
    record["roc"] = curves["auc"]
    record["rocs"] = curves
    record["milliseconds_per_shower"] = milliseconds
    return record


def _entry(result: Result, floor: Result) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "value": result.value,
        "error": result.error,
        "floor": floor.value,
        "floor_error": floor.error,
        "n": result.n,
    }
    if result.sampling > 0:
        entry["sampling_error"] = result.sampling
    if result.absolute is not None:
        entry["absolute"] = result.absolute
    if result.parts:
        entry["per_layer"] = list(result.parts)
    return entry
