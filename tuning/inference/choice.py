"""The rule: the fastest candidate whose showers are not worse than PyTorch's in float32."""

from __future__ import annotations

import math
from collections.abc import Sequence

from caloforge.tuning.inference.record import Fidelity, Measured, Value

LEAST_GAIN = 1.05
"""Less is not worth a second library."""

MOVED = 0.02
"""Share of showers that rounding may turn into others when the batch is another, beyond the family's own."""


def refusal(candidate: Fidelity, plain: Fidelity, *, tolerance: float) -> str:
    """Say which figure is worse than that of the plain generator by more than so many errors; empty: none."""
    for name, title in (("fpd", "FPD to Geant4"), ("auc", "AUC against Geant4"), ("auc_plain", "AUC against fp32")):
        value: Value = getattr(candidate, name)
        usual: Value = getattr(plain, name)
        if not value.value <= usual.value + tolerance * math.hypot(value.error, usual.error):
            return f"{title} {value.value:.3g} ± {value.error:.2g}, fp32 {usual.value:.3g} ± {usual.error:.2g}"
    return ""


def speed(candidate: Measured, plain: Measured) -> float:
    """Return how many times faster a candidate is, the geometric mean over the sizes that both were timed at."""
    sizes = [size for size in plain.ms if size in candidate.ms]
    ratios = [math.log(plain.ms[size].median / candidate.ms[size].median) for size in sizes]
    return math.exp(sum(ratios) / len(ratios)) if ratios else 0.0


def choose(candidates: Sequence[Measured]) -> tuple[Measured, str]:
    """Return the chosen candidate and the reason.

    Args:
        candidates: with their speeds and refusals; the plain one first.
    """
    plain, *others = candidates
    allowed = [one for one in others if not one.refused and one.ms]
    fastest = max(others, key=lambda one: one.speed, default=plain)
    if not allowed or max(one.speed for one in allowed) < LEAST_GAIN:
        best = max((one.speed for one in allowed), default=0.0)
        told = f"; the best of the others that may be used is {best:.2f} times as fast" if allowed else ""
        return plain, f"nothing is gained{told}"
    winner = max(allowed, key=lambda one: one.speed)
    why = f"{winner.speed:.2f} times as fast as {plain.variant.name}, and its showers are not worse"
    if fastest is not winner and fastest.speed > winner.speed:
        why += f"; {fastest.variant.name} is {fastest.speed:.2f} times as fast, but refused: {fastest.refused}"
    return winner, why
