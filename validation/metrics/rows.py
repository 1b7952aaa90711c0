"""The metrics of a generator as rows."""

from __future__ import annotations

from collections.abc import Iterator

from caloforge.validation.metrics.compare import Comparison
from caloforge.validation.metrics.headlines import headline_labels
from caloforge.validation.metrics.result import Result
from caloforge.validation.observables.observable import Observable
from caloforge.validation.observables.spectrum import SPECTRA
from caloforge.validation.registries import DISTRIBUTION_METRICS, OBSERVABLES
from caloforge.validation.row import HEADLINE, Parts, Row


def metric_rows(generator: str, comparison: Comparison, floors: Comparison) -> Iterator[Row]:
    """Return a row for each headline metric, then for each observable by each distribution metric.

    Args:
        generator: its name.
        comparison: its showers against a sample of Geant4.
        floors: showers of Geant4 against the same sample.
    """
    sigmas, found, floor = comparison.sigmas_from(floors), comparison.headline, floors.headline
    labels = headline_labels(found)
    means = {f"mean_{name}" for name in DISTRIBUTION_METRICS}  # their observables are tested one by one
    for name in (*labels, *(name for name in found if name not in labels)):
        title = labels.get(name, name)
        yield Row(
            generator=generator, kind=HEADLINE, name=name, title=title, group="Metrics",
            value=found[name].value, error=found[name].error, floor=floor[name].value, floor_error=floor[name].error,
            sigma=sigmas[name], n=found[name].n, tested=name in labels and name not in means,
            phrase=title, explains=False, listed=name in labels, sampling_error=found[name].sampling or None,
            two_sided=found[name].two_sided,
        )  # fmt: skip
    for kind, results in comparison.distributions.items():
        for name, result in results.items():
            yield _of_distribution(generator, kind, name, result, floors.distributions[kind][name])


def _of_distribution(generator: str, kind: str, name: str, result: Result, floor: Result) -> Row:
    what = OBSERVABLES.get(name) if name in OBSERVABLES else SPECTRA[name]
    worst = result.places[1][result.worst_part(floor)] if result.parts else ""
    if isinstance(what, Observable):
        phrase = what.title.lower() + (f", {worst}" if worst else "")
    else:
        phrase = what.phrase.format(part=worst)
    return Row(
        generator=generator, kind=kind, name=name, title=what.title, group=DISTRIBUTION_METRICS.get(kind).label,
        value=result.value, error=result.error, floor=floor.value, floor_error=floor.error,
        sigma=result.sigma_from(floor), n=result.n, tested=True, phrase=phrase, worst=worst,
        absolute=result.absolute, absolute_unit="" if result.absolute is None else what.unit,
        sampling_error=result.sampling or None, parts=_parts(result, floor),
    )  # fmt: skip


def _parts(result: Result, floor: Result) -> Parts | None:
    if not result.parts:
        return None
    what, where = result.places
    return Parts(
        what=what, where=where, value=result.parts, error=result.part_errors, floor=floor.parts,
        floor_error=floor.part_errors,
    )  # fmt: skip
