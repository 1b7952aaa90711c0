"""How large a difference would have been seen: without it "indistinguishable" says little."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from scipy.stats import norm

from caloforge.validation.row import HEADLINE, IN_BINS, PHYSICS, Row


def with_detectable(rows: Sequence[Row], notable: float) -> list[Row]:
    """Return rows with the difference from Geant4 that would be called one in half of all cases.

    A test fails at ``notable`` standard deviations after correction for the number of tests (Sidak 1967): at z
    with sf(z) = 1 - (1 - sf(notable))^(1/tests), and so does a difference of z errors of both samples, in half
    of all cases. It falls with one over the root of the number of showers. Rows that sum over layers or bins have
    none, as each of these has one of its own.

    Args:
        rows: all rows of some generators.
        notable: from how many standard deviations on showers are called different.
    """
    tests = Counter(row.generator for row in rows if row.tested)
    limits = {}
    for generator, n in tests.items():
        chance = -math.expm1(math.log1p(-float(norm.sf(notable))) / n)
        limits[generator] = float(norm.isf(chance)), float(norm.isf(chance / 2))
    return [
        row.model_copy(update={"detectable": _detectable(row, *limits[row.generator])}) if row.tested else row
        for row in rows
    ]


def _detectable(row: Row, one_way: float, either_way: float) -> float | None:
    if row.parts is not None or row.kind == IN_BINS:
        return None
    if row.kind == PHYSICS:  # only those that are compared with Geant4's own value have a ratio to it
        if row.ratio is None or row.error is None or row.reference_error is None:
            return None
        return either_way * math.hypot(row.error, row.reference_error)
    if row.floor_error is None:
        return None
    z = either_way if row.two_sided else one_way
    return z * math.sqrt(2) * math.hypot(row.floor_error, row.sampling_error or 0.0)


SMALL = 0.01
"""Distance of an AUC from the floor for which it is said how many showers would show it."""


def power(rows: Sequence[Row], n: int) -> str:
    """Return in words what would have been seen, and with how many showers a small difference would be.

    What is detectable falls with one over the root of their number.

    Args:
        rows: of a generator, with what is detectable.
        n: showers of each sample.
    """
    found = {(row.kind, row.name): row for row in rows if row.detectable is not None}
    seen = [
        f"{title} {row.floor + row.detectable:.3f} (floor {row.floor:.3f})"
        for key, title in (
            ((HEADLINE, "auc"), "an AUC of"),
            ((HEADLINE, "auc_low"), "a voxel AUC of"),
            ((HEADLINE, "auc_network"), "a neural AUC of"),
            (("separation", "response"), "a separation power of the response of"),
        )
        if (row := found.get(key)) and row.floor is not None and row.detectable is not None
    ]
    response = found.get((PHYSICS, "mean_response"))
    if response and response.detectable is not None and response.reference:
        seen.append(f"a mean response that is {100 * response.detectable / abs(response.reference):.2g} % off")
    if not seen:
        return ""
    text = f"With {n} showers of each, half of all generators with {_listed(seen)} would be called different."
    needed = [
        f"{_rounded(n * (row.detectable / SMALL) ** 2)} for {title}"
        for name, title in (("auc", "the AUC"), ("auc_low", "the voxel AUC"))
        if (row := found.get((HEADLINE, name))) and row.detectable is not None
    ]
    if needed:
        text += f" For {SMALL:g} above the floor it would take about {_listed(needed)}."
    return text


def _rounded(n: float) -> str:
    """Return a number with two digits that count, with commas."""
    digits = 1 - math.floor(math.log10(n))
    return f"{round(n, digits):,.0f}"


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])}, or {items[-1]}"
