"""What showers are binned in: the incident energy and, where a file has them, the angles and the particle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from caloforge.particles import particle_name
from caloforge.validation.observables.histogram import angle_edges, energy_edges
from caloforge.validation.observables.summary import Summary

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
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
        named: takes a value to its name, where values are codes: then each has a bin of its own.
    """

    title: str
    label: str
    unit: str
    values: Callable[[Summary], FloatArray | IntArray | None]
    scale: float = 1.0
    log: bool = False
    named: Callable[[float], str] | None = None

    def bins(self, edges: FloatArray) -> tuple[str, ...]:
        """Say what each of the bins between edges (B + 1,) holds, for tables."""
        if self.named is not None:
            return tuple(f"{self.title.lower()} {name}" for name in self.names(edges))
        ends = (edges * self.scale).tolist()
        return tuple(f"{self.title.lower()} {low:.4g} to {high:.4g} {self.unit}" for low, high in pairwise(ends))

    def names(self, edges: FloatArray) -> tuple[str, ...]:
        """Return the names of the codes in the bins of :func:`code_edges`, none where values are no codes."""
        return () if self.named is None else tuple(self.named(low + 0.5) for low in edges[:-1].tolist())


CONDITIONS: dict[str, Condition] = {
    "energy": Condition(
        "Incident energy", r"$E_\mathrm{inc}$", "GeV", lambda s: s.incident_energy, scale=1e-3, log=True
    ),
    "theta": Condition("Polar angle", r"$\theta$", "rad", lambda s: s.theta),
    "phi": Condition("Azimuth", r"$\phi$", "rad", lambda s: s.phi),
    "particle": Condition(
        "Particle", "Particle", "", lambda s: s.particle, named=lambda code: particle_name(round(code))
    ),
}


def present(reference: Summary, others: Sequence[Summary]) -> dict[str, FloatArray]:
    """Return the bin edges of each condition that all samples have and that varies in the reference."""
    found = {"energy": energy_edges(reference.incident_energy)}
    for name, condition in CONDITIONS.items():
        values = [condition.values(summary) for summary in (reference, *others)]
        if name != "energy" and values[0] is not None and all(v is not None for v in values):
            edges = (angle_edges if condition.named is None else code_edges)(values[0].astype(np.float64))
            if len(edges) > 2:
                found[name] = edges
    return found


def code_edges(codes: FloatArray) -> FloatArray:
    """Return edges (B + 1,) such that bin i begins a half below the i-th code and ends before the next one."""
    levels = np.unique(codes).astype(np.float64)
    return np.asarray([*(levels - 0.5), levels[-1] + 0.5])


def with_shared_conditions(samples: Sequence[Summary]) -> list[Summary]:
    """Return samples without the conditions that not all of them have: what is judged is the same in all."""
    missing = {
        name: None for name in ("theta", "phi", "particle") if any(getattr(one, name) is None for one in samples)
    }
    return [replace(one, **missing) for one in samples]  # type: ignore[arg-type]


def ranges(reference: Summary, condition: str) -> list[tuple[str, float, float]]:
    """Return title, lower and upper end of up to three ranges that hold equally many showers, or of the commonest codes."""
    what = CONDITIONS[condition]
    values = what.values(reference)
    assert values is not None
    levels, numbers = np.unique(values, return_counts=True)
    if what.named is not None:
        most = np.sort(levels[np.argsort(-numbers, kind="stable")[:MOST_RANGES]]).tolist()
        return [(what.named(level), level - 0.5, level + 0.5) for level in most]
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
