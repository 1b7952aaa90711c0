"""A figure of one sample beside Geant4's, and the rows of all generators that are made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from caloforge.validation.row import PHYSICS, Parts, Row


@dataclass(frozen=True)
class Found:
    """A figure of one sample.

    Attributes:
        value: None if it is undefined.
        error: standard deviation, None without one.
        sigma: distance from Geant4, one-sided.
        ending: of the phrase about the difference, as ``, layer 4``: where it differs most.
        parts: bins.
        freedom: number of squared pulls that the value sums.
        ratio: value over the reference's.
        ratio_error: its error.
        extra: further numbers.
    """

    value: float | None
    error: float | None
    sigma: float
    ending: str = ""
    parts: Parts | None = None
    freedom: int | None = None
    ratio: float | None = None
    ratio_error: float | None = None
    extra: Mapping[str, float] = field(default_factory=dict)


def figure_rows(
    name: str,
    title: str,
    floor: Found,
    generators: Mapping[str, Found],
    *,
    n: int,
    value: float | None = 0.0,
    error: float | None = 0.0,
    unit: str = "",
    tested: bool = True,
    kind: str = PHYSICS,
    group: str = "Physics figures",
    phrase: str = "",
) -> Iterator[Row]:
    """Return the row of each generator.

    Args:
        name: of the figure.
        title: its name in tables; up to the first comma also in sentences.
        floor: of a second sample of Geant4.
        generators: by name.
        n: showers of each sample.
        value: Geant4's own; None: the figure compares two samples.
        error: its error.
        unit: of the value.
        tested: whether it counts in the verdict.
        kind: of the rows.
        group: heading of their table.
        phrase: in sentences, if it is not made of the title.
    """
    for generator, found in generators.items():
        optional: dict[str, Any] = {
            "parts": found.parts, "freedom": found.freedom, "ratio": found.ratio, "ratio_error": found.ratio_error,
        }  # fmt: skip
        yield Row(
            generator=generator, kind=kind, name=name, title=title, unit=unit, group=group,
            value=found.value, error=found.error, floor=floor.value, floor_error=floor.error,
            sigma=found.sigma, n=n, tested=tested,
            phrase=(phrase or title.partition(",")[0].lower()) + found.ending, worst=found.ending.strip(", "),
            reference=value, reference_error=error, floor_sigma=floor.sigma, floor_freedom=floor.freedom,
            extra=dict(found.extra), **optional,
        )  # fmt: skip
