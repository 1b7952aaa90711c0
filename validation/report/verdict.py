"""The verdict: can the showers be told from Geant4's, and by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scipy.stats import norm

from caloforge.validation.judgement import Verdict
from caloforge.validation.report.power import power
from caloforge.validation.row import Row
from caloforge.validation.significance import LARGEST, worst_of

NOTABLE = 3.0
"""From how many standard deviations on, after correction, showers are called different from Geant4's."""

RULE = (
    "Each metric, observable, tested physics figure and key figure in bins is one test: its distance from the "
    "Geant4-Geant4 floor, both against the second sample of Geant4 (of a physics figure: from Geant4's; in bins: by the sum of squared pulls) in standard deviations, that of an observable with layers being its worst layer's "
    "after the correction of Sidak (1967) for their number. The largest, corrected by the same rule for the number of "
    f"tests, decides: more than {NOTABLE:g} standard deviations mean distinguishable. By what is found by the procedure "
    "of Holm (1979) at the same level."
)


def verdict(generator: str, rows: Sequence[Row], n: int) -> Verdict:
    """Return the verdict about a generator.

    Args:
        generator: its name.
        rows: its rows.
        n: showers of each sample.
    """
    tests = [row for row in rows if row.tested]
    sigma = max(worst_of([test.sigma for test in tests]), 0.0)
    rejected = _holm(tests)
    telling = [test for test in rejected if test.explains] or rejected
    # Without any that differs, the nearest to it; otherwise what says most about the defect.
    worst = max(telling or tests, key=lambda test: test.sigma)
    by = list(dict.fromkeys([worst.phrase, *(test.phrase for test in telling)])) if telling else []
    if sigma > NOTABLE:
        also = f"; also by {', '.join(by[1:4])}" if len(by) > 1 else ""
        more = f" and {len(by) - 4} more" if len(by) > 4 else ""
        judgement = (
            f"is distinguishable from Geant4 by {worst.phrase}{also}{more} "
            f"({_capped(sigma)} standard deviations after correction for {len(tests)} tests)"
        )
    else:
        judgement = (
            f"is indistinguishable from Geant4 with {n} showers of each: the largest of {len(tests)} "
            f"differences, in {worst.phrase}, is {sigma:.1f} standard deviations after correction for their number"
        )
    return Verdict(
        generator=generator,
        indistinguishable=sigma <= NOTABLE,
        sigma=sigma,
        worst=worst.phrase,
        tests=len(tests),
        distinguishable_by=tuple(by) if sigma > NOTABLE else (),
        sentence=f"{generator} {judgement}.",
        power=power(rows, n),
    )


def overall(verdicts: Mapping[str, Verdict], winner: str) -> Verdict:
    """Return the verdict about the best generator, with the rule."""
    found = verdicts[winner]
    sentence = found.sentence
    if (n := len(verdicts)) > 1:
        sentence = f"Best of {n} generators, {winner}, " + sentence.removeprefix(f"{winner} ")
    return found.model_copy(update={"sentence": sentence, "rule": RULE})


def _holm(tests: Sequence[Row]) -> list[Row]:
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
