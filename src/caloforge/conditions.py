"""What showers are conditioned on: the incident particle's energy, direction and kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ConditionName = Literal["incident_energy", "theta", "phi", "particle"]
ConditionNames = tuple[ConditionName, ...]
"""Names of the conditions of a sample or a generator, the incident energy first."""


@dataclass(frozen=True)
class Column:
    """How a condition is stored in a shower file, and what it can be.

    Attributes:
        dataset: its name there.
        low: least value; what is outside is damaged or in another unit.
        high: greatest value.
        unit: of the values; empty for codes.
        whole: whether it is a code, a whole number that is not 0.
    """

    dataset: str
    low: float
    high: float
    unit: str = ""
    whole: bool = False

    def check(self, values: NDArray[Any], *, where: str, rows: Sequence[int] | IntArray | None = None) -> None:
        """Refuse values that the condition cannot have.

        Args:
            values: (N,) numbers.
            where: what they are and where they are from, for the message.
            rows: (N,) numbers of their rows there; None: they count from 0.

        Raises:
            InputError: a value is out of bounds, not finite, or no code.
        """
        if (wrong := ~self.possible(values)).any():
            first = int(np.argmax(wrong))
            row = first if rows is None else rows[first]
            said = f"row {row} is {values[first]:g}; {int(wrong.sum())} of {len(values)} are not {self.expected}"
            raise InputError(f"{where}: {said}")

    def possible(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which of (N,) numbers the condition can have."""
        inside = (values >= self.low) & (values <= self.high)  # false for NaN
        return np.asarray(inside & (values != 0) & (values == np.round(values)) if self.whole else inside)

    @property
    def expected(self) -> str:
        """What the values must be, in words."""
        if self.whole:
            return "PDG codes of particles"
        return f"between {self.low:.6g} and {self.high:.6g} {self.unit}"


_TURN = 2 * np.pi * (1 + 1e-6)  # a float32 may round up

COLUMNS: Mapping[ConditionName, Column] = {
    # 1 eV; three times the most that a cosmic ray was seen with
    "incident_energy": Column("incident_energies", 1e-6, 1e15, "MeV"),
    "theta": Column("incident_theta", 0.0, _TURN / 2, "rad"),
    "phi": Column("incident_phi", -_TURN, _TURN, "rad"),
    "particle": Column("incident_pdg", -(2.0**31), 2.0**31, whole=True),
}
"""The conditions, in the order in which they are named everywhere."""

ETA = Column("incident_eta", -20.0, 20.0, "(pseudorapidity)")
"""Pseudorapidity, from which the polar angle is worked out where a file has no ``incident_theta``."""

assert tuple(COLUMNS) == get_args(ConditionName)


@dataclass(frozen=True)
class Conditions:
    """What a shower is conditioned on, one row per shower.

    Attributes:
        incident_energy: (N,) float64, MeV.
        theta: (N,) float64, polar angle in rad, if the sample has it.
        phi: (N,) float64, azimuth in rad, if the sample has it.
        particle: (N,) int64, PDG codes, if the sample has them.
    """

    incident_energy: FloatArray
    theta: FloatArray | None = None
    phi: FloatArray | None = None
    particle: IntArray | None = None

    def __len__(self) -> int:
        """Return the number of showers."""
        return len(self.incident_energy)

    @property
    def names(self) -> tuple[ConditionName, ...]:
        """Names of the conditions that are there, the incident energy first."""
        return tuple(name for name in COLUMNS if getattr(self, name) is not None)

    @classmethod
    def of(cls, columns: Mapping[Any, NDArray[Any]]) -> Conditions:
        """Return conditions of columns of any type of number, by their names; values are taken as they are."""
        found: dict[str, Any] = {}
        for name, column in COLUMNS.items():
            if name in columns:
                found[name] = np.asarray(columns[name]).astype(np.int64 if column.whole else np.float64)
        return cls(**found)

    @classmethod
    def joined(cls, parts: Sequence[Conditions]) -> Conditions:
        """Return the conditions of several samples that have the same ones, one after the other."""
        return cls(**{name: np.concatenate([getattr(one, name) for one in parts]) for name in parts[0].names})

    def take(self, rows: slice | IntArray) -> Conditions:
        """Return the conditions of some rows."""
        return Conditions(**{name: getattr(self, name)[rows] for name in self.names})

    def labelled(self, values: Mapping[Any, float], *, where: object) -> Conditions:
        """Return them with further conditions that are the same for all rows.

        Raises:
            InputError: one of them is there already; ``where`` says of what these are.
        """
        if twice := [name for name in values if name in self.names]:
            raise InputError(f"--condition {twice[0]}: {where} says it for each shower; leave it out")
        columns = {name: getattr(self, name) for name in self.names}
        return Conditions.of(columns | {name: np.full(len(self), value) for name, value in values.items()})

    def check(self, *, where: object) -> None:
        """Refuse values that no particle has.

        Raises:
            InputError: see :meth:`Column.check`.
        """
        for name in self.names:
            COLUMNS[name].check(getattr(self, name), where=f"{where}: {COLUMNS[name].dataset}")
