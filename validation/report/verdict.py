"""The verdict: can the showers be told from Geant4's, and by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import norm

from caloforge.validation.metrics.registry import DISTRIBUTION_METRICS, headline_labels
from caloforge.validation.observables.registry import OBSERVABLES
from caloforge.validation.significance import LARGEST, worst_of

NOTABLE = 3.0
"""From how many standard deviations on, after correction, showers are called different from Geant4's."""

_TITLES = {
    "voxel_energy": "Voxel energy",
    "voxel_energy_groups": "Voxel energy in groups of layers",
    "response_by_energy": "Total response at each incident energy",
}
"""Names in tables of what the distribution metrics judge beside the observables."""


def title_of(name: str) -> str:
    """Return the name in tables of an observable, or of what else the distribution metrics judge."""
    return OBSERVABLES[name].title if name in OBSERVABLES else _TITLES[name]


RULE = (
    "Each metric, observable, tested physics figure and key figure in bins is one test: its distance from the "
    "Geant4-Geant4 floor (of a physics figure: from Geant4's; in bins: by the sum of squared pulls) in standard deviations, that of an observable with layers being its worst layer's "
    "after the correction of Sidak (1967) for their number. The largest, corrected by the same rule for the number of "
    f"tests, decides: more than {NOTABLE:g} standard deviations mean distinguishable. By what is found by the procedure "
    "of Holm (1979) at the same level."
)


@dataclass(frozen=True)
class Difference:
    """One comparison with Geant4.

    Attributes:
        title: the observable, figure or metric, with the layer that is worst.
        sigma: standard deviations from the floor, one-sided.
        explains: whether it says what is wrong; a classifier and distances in feature space do not.
    """

    title: str
    sigma: float
    explains: bool


def verdict(metrics: Mapping[str, Any], generator: str) -> dict[str, Any]:
    """Return the verdict about a generator of a ``metrics.json``.

    Returns:
        ``indistinguishable``; ``sigma``, the largest distance corrected for the number of tests;
        ``worst``, where it differs most; ``tests``, their number; ``distinguishable_by``, all that
        differ, the worst first; ``sentence``.
    """
    tests = _tests(metrics, generator)
    sigma = max(worst_of([test.sigma for test in tests]), 0.0)
    rejected = _holm(tests)
    telling = [test for test in rejected if test.explains] or rejected
    # Without any that differs, the nearest to it; otherwise what says most about the defect.
    worst = max(telling or tests, key=lambda test: test.sigma)
    by = list(dict.fromkeys([worst.title, *(test.title for test in telling)])) if telling else []
    if sigma > NOTABLE:
        also = f"; also by {', '.join(by[1:4])}" if len(by) > 1 else ""
        more = f" and {len(by) - 4} more" if len(by) > 4 else ""
        judgement = (
            f"is distinguishable from Geant4 by {worst.title}{also}{more} "
            f"({_capped(sigma)} standard deviations after correction for {len(tests)} tests)"
        )
    else:
        judgement = (
            f"is indistinguishable from Geant4 with {metrics['n']} showers of each: the largest of {len(tests)} "
            f"differences, in {worst.title}, is {sigma:.1f} standard deviations after correction for their number"
        )
    return {
        "generator": generator,
        "indistinguishable": sigma <= NOTABLE,
        "sigma": sigma,
        "worst": worst.title,
        "tests": len(tests),
        "distinguishable_by": by if sigma > NOTABLE else [],
        "sentence": f"{generator} {judgement}.",
    }


def overall(metrics: Mapping[str, Any], winner: str) -> dict[str, Any]:
    """Return the verdict about the best generator, with the rule."""
    found = dict(metrics["generators"][winner]["verdict"])
    if (n := len(metrics["generators"])) > 1:
        found["sentence"] = f"Best of {n} generators, {winner}, " + found["sentence"].removeprefix(f"{winner} ")
    return {**found, "rule": RULE}


def _tests(metrics: Mapping[str, Any], generator: str) -> list[Difference]:
    record = metrics["generators"][generator]
    means = {f"mean_{name}" for name in DISTRIBUTION_METRICS}
    tests = [
        Difference(label, record[name]["sigma"], explains=False)
        for name, label in headline_labels(record).items()
        if name not in means  # their observables are tested one by one
    ]
    for metric in DISTRIBUTION_METRICS:
        for name, entry in record[metric].items():
            title = title_of(name).lower()
            if "worst_layer" in entry:
                title += f", layer {entry['worst_layer']}"
            elif "worst_group" in entry:
                title = f"voxel energy in {entry['worst_group']}"
            tests.append(Difference(title, entry["sigma"], explains=True))
    for figure in metrics["physics"].values():
        if figure["tested"]:
            entry = figure["generators"][generator]
            title = figure["title"].partition(",")[0].lower() + (
                f", layer {entry['layer']}" if "layer" in entry else f" {entry['where']}" if "where" in entry else ""
            )
            tests.append(Difference(title, entry["sigma"], explains=True))
    for table in metrics["in_bins"].values():
        for figure in table["figures"].values():
            title = f"{figure['title']} in bins of {table['title']}".lower()
            tests.append(Difference(title, figure["generators"][generator]["sigma"], explains=True))
    return tests


def _holm(tests: Sequence[Difference]) -> list[Difference]:
    """Return the tests that fail at the level of ``NOTABLE`` for all of them together, the worst first."""
    level = norm.sf(NOTABLE)
    failed = []
    for i, test in enumerate(sorted(tests, key=lambda test: -test.sigma)):
        if norm.sf(min(test.sigma, LARGEST)) * (len(tests) - i) > level:
            break
        failed.append(test)
    return failed


def _capped(sigma: float) -> str:
    return f"more than {LARGEST:g}" if sigma >= LARGEST else f"{sigma:.1f}"
