"""The validation step: judge generated showers against Geant4 and write metrics, plots and report."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import InputError
from caloforge.outputs import check_folder, result_folder
from caloforge.provenance import provenance
from caloforge.result_kinds import REPORT
from caloforge.showers import VARIANT, Showers
from caloforge.source import Source
from caloforge.steps import step
from caloforge.validation.checks import (
    check_geometries,
    check_sizes,
    check_timings,
    check_twice,
    check_units,
    check_values,
    condition_warnings,
    copy_warnings,
    family_notes,
    impossible_warnings,
    overlap_warnings,
    shared_energies,
    student_notes,
)
from caloforge.validation.figures.key_figures import in_bins
from caloforge.validation.figures.memorisation import memorisation
from caloforge.validation.figures.table import physics_rows
from caloforge.validation.judgement import FORMAT, Floor, Generator, Judgement, Protocol, Reference, RocCurve
from caloforge.validation.metrics.compare import Comparison, headlines
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.rows import metric_rows
from caloforge.validation.metrics.sample import Sample
from caloforge.validation.observables.conditions import with_shared_conditions
from caloforge.validation.observables.impact import expect_centres
from caloforge.validation.observables.summary import summarise
from caloforge.validation.plots.events import events, typical_energies
from caloforge.validation.plots.style import REFERENCE
from caloforge.validation.plots.write import write_plots
from caloforge.validation.registries import PROTOCOLS
from caloforge.validation.report.html import write_report
from caloforge.validation.report.leaderboard import ranked
from caloforge.validation.report.power import with_detectable
from caloforge.validation.report.tables import summary_markdown, tables_csv
from caloforge.validation.report.verdict import NOTABLE, overall, verdict
from caloforge.validation.row import HEADLINE, Row

if TYPE_CHECKING:
    from caloforge.validation.figures.likelihood import Scorer

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]


def validate(
    reference: Showers,
    generated: Mapping[str, Showers],
    output: Path,
    *,
    floor: Showers | None = None,
    training: Showers | None = None,
    likelihood: Path | None = None,
    timings: Mapping[str, float] | None = None,
    protocol: str = "quick",
    seed: int = 0,
    failed: Mapping[str, str] | None = None,
    source: Source | None = None,
    overwrite: bool = False,
) -> Judgement:
    """Compare samples with the reference and write ``metrics.json``, ``report.html`` and ``plots/``.

    Beside them ``summary.md`` and ``tables.csv`` hold the same figures for notes and spreadsheets.

    Every comparison is made with the same number of showers: the smallest sample's. Metrics of two samples
    compare with the second sample of Geant4: the generated one, and for the floor the reference. These
    two have the same incident energies, the second sample has its own, so that one that is as good as
    Geant4 has the same distribution of values as the floor. Compared with the reference, it would share its
    accidents of the energies, and defects as large as these would not be seen.

    Args:
        reference: Geant4 showers.
        generated: generator name to its showers, one per incident energy of the reference.
        output: folder to write; it appears only when complete.
        floor: a second sample of Geant4, which no generator has seen either; without it the reference is
            halved at random, which halves the number of showers that everything is compared with.
        training: what the generators were trained on; with it, showers that repeat it are found.
        likelihood: bundle of a generator whose likelihood is exact; with it, how likely the samples are is compared.
        timings: generator name to milliseconds per shower.
        protocol: name in :data:`caloforge.validation.registries.PROTOCOLS`.
        seed: of the random choices.
        failed: generators that there is nothing of to judge, and why; report and leaderboard name them.
        source: where the Geant4 showers came from; report and leaderboard say it.
        overwrite: see :func:`caloforge.outputs.check_folder`.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        InputError: there is no such protocol, or it says nothing about the geometry; a sample is too small, has
            other voxels or units than the reference, or holds energies that are no energies; the bundle cannot say
            how likely they are.
    """
    rules = PROTOCOLS.get(protocol)
    inputs = [one.path for one in (reference, *generated.values(), floor, training) if one is not None]
    inputs += [] if likelihood is None else [likelihood]
    check_folder(output, REPORT, inputs=inputs, overwrite=overwrite)
    with step("validate"):
        clock = _Clock()
        timings = dict(timings or {})
        if not generated:
            raise InputError("validate: no generated sample given")
        others = dict(generated) if floor is None else {**generated, "second Geant4 sample": floor}
        if training is not None:
            others["training sample"] = training
        check_sizes(reference, others, halved=floor is None)
        check_geometries(reference, others)
        check_units(reference, others)
        check_values({"reference": reference, **others})
        check_timings(timings)
        check_twice(generated)
        scorer = None if likelihood is None else _scorer(likelihood, reference, generated, floor)
        samples = _choose(reference, generated, floor, seed=seed)
        threshold = rules.threshold((reference, *others.values()))
        logger.info(
            "validate: %d showers of each sample, %d voxels, threshold %.4g MeV",
            len(samples.reference), reference.geometry.n_voxels, threshold,
        )  # fmt: skip
        truth, second, judged, warnings = _summarised(samples, threshold)
        summaries = {name: sample.summary for name, sample in judged.items()}
        clock.lap("read")
        logger.info("validate: comparing Geant4 with itself")
        floors = rules.compare(second, truth, seed=seed)
        comparisons = {}
        for name, sample in judged.items():
            logger.info("validate: comparing %s with Geant4", name)
            comparisons[name] = rules.compare(second, sample, seed=seed)
        rows = [row for name, one in comparisons.items() for row in metric_rows(name, one, floors)]
        rows += physics_rows(truth.summary, second.summary, summaries, seed=seed)
        both = [truth.summary] if floor is not None else [truth.summary, second.summary]
        warnings += copy_warnings(both, summaries)
        if training is not None:
            logger.info("validate: comparing with the training sample")
            found = memorisation(training, truth, second, judged, seed=seed)
            rows += found
            copies = {"reference": "reference_copies", "second sample": "floor_copies"}
            warnings += overlap_warnings({name: found[0].extra[key] for name, key in copies.items()}, training)
        residuals: dict[str, FloatArray] = {}
        if scorer is not None:
            found, residuals = _scored(scorer, samples)
            rows += found
            warnings += impossible_warnings(found)
        rows += in_bins(truth.summary, second.summary, summaries)
        rows = with_detectable(rows, NOTABLE)
        made = provenance(
            inputs={
                "reference": reference.path,
                **{name: s.path for name, s in others.items() if s.path != reference.path},
                **({} if scorer is None else {"likelihood": scorer.weights}),
            },
            seed=seed,
        )
        if source is not None and not source.sha256:  # of a path: it was summed just now
            source = replace(source, sha256=made["inputs"]["reference"]["sha256"])
        n = len(truth.summary)
        aucs = {row.generator: row.value for row in rows if (row.kind, row.name) == (HEADLINE, "auc") and row.value}
        speeds = {name: timings.get(name) for name in comparisons}
        verdicts = {name: verdict(name, [row for row in rows if row.generator == name], n) for name in comparisons}
        metrics = Judgement(
            schema=FORMAT,
            verdict=overall(verdicts, ranked(rows, speeds)[0].generator),
            protocol=Protocol(name=protocol, description=rules.description),
            n=n,
            reference=Reference(
                file=reference.path.name,
                showers=len(reference),
                milliseconds_per_shower=_milliseconds(samples.reference),
            ),
            floor=Floor(kind="halves of the reference", file=reference.path.name)
            if floor is None
            else Floor(kind="second sample", file=floor.path.name),
            geometry=reference.geometry.name,
            threshold_mev=threshold,
            source=source,
            warnings=tuple(warnings),
            notes=(*shared_energies(generated), *student_notes(generated), *family_notes(generated, aucs)),
            failed=dict(failed or {}),
            generators={
                name: Generator(
                    verdict=verdicts[name],
                    milliseconds_per_shower=speeds[name],
                    variant=_variant(generated[name]),
                    rocs=_rocs(comparisons[name]),
                )
                for name in comparisons
            },
            rows=tuple(rows),
            seconds={},
            provenance=made,
        )
        logger.info("validate: %s", metrics.verdict.sentence)
        clock.lap("compare")
        logger.info("validate: drawing")
        energies = typical_energies(samples.reference)
        shown = {
            name: events(showers, energies, threshold=threshold)
            for name, showers in {REFERENCE: samples.reference, **samples.generated}.items()
        }
        with result_folder(output, REPORT, inputs=inputs, overwrite=overwrite) as folder:
            plots = write_plots(truth.summary, summaries, metrics, shown, folder / "plots", residuals=residuals)
            clock.lap("draw")
            metrics = metrics.model_copy(update={"seconds": clock.seconds})
            write_report(metrics, plots, shown, reference.geometry, folder / "report.html")
            (folder / "summary.md").write_text(summary_markdown(metrics), encoding="utf-8")
            (folder / "tables.csv").write_text(tables_csv(metrics), encoding="utf-8")
            metrics.write(folder / "metrics.json")
        return metrics


def headline_figures(
    reference: Showers, generated: Showers, *, floor: Showers, names: Collection[str], seed: int = 0
) -> tuple[dict[str, Result], dict[str, Result]]:
    """Return some headline metrics of one sample as :func:`validate` has them, and their floors.

    Args:
        reference: Geant4 showers.
        generated: one for each of them.
        floor: a second sample of Geant4.
        names: of the metrics; what is computed along with them comes, too.
        seed: of the random choices.

    Raises:
        InputError: see :func:`validate`.
    """
    others = {"generated": generated, "second Geant4 sample": floor}
    check_sizes(reference, others, halved=False)
    check_geometries(reference, others)
    rules = PROTOCOLS.get("quick")
    samples = _choose(reference, {"generated": generated}, floor, seed=seed)
    truth, second, judged, _ = _summarised(samples, rules.threshold((reference, *others.values())))
    found, floors = (headlines(second, one, names, seed=seed) for one in (judged["generated"], truth))
    return found, floors


def _scorer(bundle: Path, reference: Showers, generated: Mapping[str, Showers], floor: Showers | None) -> Scorer:
    from caloforge.validation.figures.likelihood import Scorer  # torch takes its time

    samples = {"reference": reference, **{f"sample {name}": showers for name, showers in generated.items()}}
    return Scorer.open(bundle, samples if floor is None else {**samples, "second Geant4 sample": floor})


def _scored(scorer: Scorer, samples: _Samples) -> tuple[list[Row], dict[str, FloatArray]]:
    """Return the rows about how likely the samples are, and their residuals, the reference's first."""
    from caloforge.validation.figures.likelihood import likelihood_rows

    logger.info("validate: how likely the showers are by %s", scorer.generator.family)
    truth, second = scorer.score(samples.reference), scorer.score(samples.floor)
    others = {name: scorer.score(showers) for name, showers in samples.generated.items()}
    residuals = {name: scores.residual for name, scores in {REFERENCE: truth, **others}.items()}
    return list(likelihood_rows(truth, second, others)), residuals


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


def _summarised(samples: _Samples, threshold: float) -> tuple[Sample, Sample, dict[str, Sample], list[str]]:
    """Read all samples once; return the reference, the floor and the generated ones with their summaries, and warnings."""
    others = {"": samples.floor, **samples.generated}
    truth = summarise(samples.reference, threshold=threshold)
    found = {name: summarise(showers, threshold=threshold) for name, showers in others.items()}
    warnings = condition_warnings(truth, {name: found[name] for name in samples.generated})
    truth, *shared = with_shared_conditions([truth, *found.values()])
    truth, found = expect_centres(truth, dict(zip(found, shared, strict=True)))
    judged = {name: Sample(showers, found[name]) for name, showers in others.items()}
    return Sample(samples.reference, truth), judged.pop(""), judged, warnings


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


def _rocs(comparison: Comparison) -> dict[str, RocCurve]:
    curves = {name: result.roc for name, result in comparison.features.items() if result.roc is not None}
    return {name: RocCurve(fpr=roc.fpr, tpr=roc.tpr, thresholds=roc.thresholds) for name, roc in curves.items()}


def _variant(showers: Showers) -> str | None:
    """Return what drew the showers; None if their file does not say it."""
    told = showers.attributes.get(VARIANT)
    return told if isinstance(told, str) else None


def _milliseconds(reference: Showers) -> float | None:
    """Return the mean CPU time that the full simulation took for a shower, ms; None if the file does not say it."""
    seconds = reference.cpu_seconds
    return None if seconds is None else 1e3 * float(seconds.mean())
