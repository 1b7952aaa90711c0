"""One row of results: a figure of one generator beside Geant4's, with errors, floor and distance."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from caloforge.config import Config

Number = Annotated[float, Field(allow_inf_nan=False)]
Numbers = tuple[Number | None, ...]

HEADLINE, PHYSICS, IN_BINS = "headline", "physics", "in_bins"
"""Kinds of rows; all others are called by the distribution metric that they are of."""


class Parts(Config):
    """What a row's value is made of, one entry for each part. An empty tuple: not known, or there is no such thing.

    Attributes:
        what: the parts in the plural: layers, groups, energies, bins, columns.
        where: name of each part.
        edges: of bins, one more than there are parts, in ``unit``.
        unit: of the edges.
        value: the figure; None where it is undefined.
        error: its statistical error.
        floor: of a second sample of Geant4.
        floor_error: its error.
        reference: of Geant4 itself, if the figure is one of a single sample.
        reference_error: its error.
    """

    what: str
    where: tuple[str, ...]
    edges: tuple[Number, ...] = ()
    unit: str = ""
    value: Numbers = ()
    error: Numbers = ()
    floor: Numbers = ()
    floor_error: Numbers = ()
    reference: Numbers = ()
    reference_error: Numbers = ()


class Row(Config):
    """A figure of one generator beside Geant4's. Tables, pages, verdict, leaderboard and plots are views of rows.

    Attributes:
        generator: whose showers.
        kind: ``headline`` (samples as a whole), a distribution metric (of one observable), ``physics`` (a figure
            of a sample) or ``in_bins`` (a key figure followed through bins).
        name: of the metric, observable or figure; with generator and kind it is unique.
        title: name in tables.
        unit: of ``value``, empty for a pure number.
        group: heading of the table that it stands in.
        value: the figure; None if it is undefined.
        error: its statistical error, one standard deviation; None if there is none.
        floor: the value of a second sample of Geant4.
        floor_error: its error.
        sigma: by how many standard deviations the generator is worse than Geant4, one-sided.
        n: showers of each sample.
        tested: whether it is one of the verdict's tests.
        phrase: what a sentence calls the difference, with the part that is worst.
        worst: the part that is furthest off; empty without parts.
        explains: whether it says what is wrong; a classifier and distances in feature space do not.
        listed: whether tables show it.
        parts: what the value is made of: layers, bins.
        reference: Geant4's own value of a figure of a single sample; a comparison has none.
        reference_error: its error.
        floor_sigma: distance of the second sample of Geant4 from the reference.
        freedom: number of squared pulls that the value sums.
        floor_freedom: the floor's.
        ratio: value over reference.
        ratio_error: its error.
        absolute: the value in the observable's own unit, where ``value`` is in another.
        absolute_unit: that unit.
        sampling_error: what other showers would change the value by, where ``error`` as published leaves it out.
        two_sided: a value below the floor is as bad as one above it.
        detectable: difference from the floor, or of a physics figure from Geant4's value, that the verdict would call
            one in half of all cases, by this row alone; None where the parts have one each.
        extra: further numbers by name, e.g. ``copies``, the share of showers that are in the training sample.
    """

    generator: str
    kind: str
    name: str
    title: str
    unit: str = ""
    group: str
    value: Number | None
    error: Number | None
    floor: Number | None
    floor_error: Number | None
    sigma: Number
    n: int
    tested: bool
    phrase: str
    worst: str = ""
    explains: bool = True
    listed: bool = True
    parts: Parts | None = None
    reference: Number | None = None
    reference_error: Number | None = None
    floor_sigma: Number | None = None
    freedom: int | None = None
    floor_freedom: int | None = None
    ratio: Number | None = None
    ratio_error: Number | None = None
    absolute: Number | None = None
    absolute_unit: str = ""
    sampling_error: Number | None = None
    two_sided: bool = False
    detectable: Number | None = None
    extra: dict[str, Number] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """Title and unit."""
        return f"{self.title} [{self.unit}]" if self.unit else self.title
