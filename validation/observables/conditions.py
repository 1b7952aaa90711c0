"""What showers are binned in: the incident energy and, where a file has them, the angles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.validation.observables.histogram import angle_edges, energy_edges
from caloforge.validation.observables.summary import Summary

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOST_RANGES = 3


@dataclass(frozen=True)
class Condition:
    """What showers are binned in.

    Attributes:
        title: name in tables.
        label: name on axes; mathtext.
        unit: of ``values`` times ``scale``.
        values: takes a summary to (N,) values, None if the sample has no such thing.
        scale: from the package's unit to that of the axis.
        log: logarithmic bins.
    """

    title: str
    label: str
    unit: str
    values: Callable[[Summary], FloatArray | None]
    scale: float = 1.0
    log: bool = False


CONDITIONS: dict[str, Condition] = {
    "energy": Condition(
        "Incident energy", r"$E_\mathrm{inc}$", "GeV", lambda s: s.incident_energy, scale=1e-3, log=True
    ),
    "theta": Condition("Polar angle", r"$\theta$", "rad", lambda s: s.theta),
    "phi": Condition("Azimuth", r"$\phi$", "rad", lambda s: s.phi),
}


def present(reference: Summary, others: Sequence[Summary]) -> dict[str, FloatArray]:
    """Return the bin edges of each condition that all samples have and that varies in the reference."""
    found = {"energy": energy_edges(reference.incident_energy)}
    for name, condition in CONDITIONS.items():
        values = [condition.values(summary) for summary in (reference, *others)]
        if name != "energy" and values[0] is not None and all(v is not None for v in values):
            edges = angle_edges(values[0])
            if len(edges) > 2:
                found[name] = edges
    return found


def ranges(reference: Summary, condition: str) -> list[tuple[str, float, float]]:
    """Return title, lower and upper end of up to three ranges that hold equally many showers."""
    what = CONDITIONS[condition]
    values = what.values(reference)
    assert values is not None
    levels = np.unique(values)
    if len(levels) <= MOST_RANGES:
        return [
            (f"{what.label} = {level * what.scale:.3g} {what.unit}", *np.nextafter(level, [-np.inf, np.inf]))
            for level in levels.tolist()
        ]
    cuts = np.quantile(values, np.linspace(0, 1, MOST_RANGES + 1))
    cuts[-1] = np.nextafter(cuts[-1], np.inf)
    return [
        (f"{what.label} = {low * what.scale:.3g} to {high * what.scale:.3g} {what.unit}", low, high)
        for low, high in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
    ]


def inside(summary: Summary, condition: str, low: float, high: float) -> Mask:
    """Return which showers lie in a range, (N,)."""
    values = CONDITIONS[condition].values(summary)
    assert values is not None
    return np.asarray((values >= low) & (values < high))
