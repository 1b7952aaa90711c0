"""What the conditions of a sample were: the range of each, or its values where there are few."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator
from pydantic_core import PydanticCustomError

from caloforge.conditions import COLUMNS, ConditionName, Conditions
from caloforge.config import Config
from caloforge.errors import InputError
from caloforge.particles import particle_name

logger = logging.getLogger(__name__)

Extrapolation = Literal["refuse", "warn"]
"""What is done with conditions outside the trained range."""

EDGE = 0.05
"""How far beyond the extreme energies counts as inside, as a share of them: another sample of the same spectrum
ends at slightly other energies."""

ANGLE_EDGE = 0.01
"""The same of angles, as a share of their range; and this is enough of it:"""
LEAST_ANGLE_EDGE = 2e-3
"""Rad."""

FEW_VALUES = 20
"""At most so many different values of an energy or angle are a list of them, if each has ten showers."""

WHOLE_TURN_GAP = 0.2 * np.pi
"""An azimuth that leaves out less than this, in rad, is one all around."""

_MOST_NAMED = 6


class Domain(Config):
    """The values of one condition in a sample.

    Attributes:
        low: least value, MeV or rad; of an azimuth the beginning of the shortest arc that holds all, in (-pi, pi]. None for
            codes.
        high: greatest value; of an azimuth the end of that arc, at most a turn beyond ``low``. None for codes.
        values: rising, of codes, and of others where there are few; else empty.
    """

    low: float | None = None
    high: float | None = None
    values: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _something(self) -> Self:
        if (self.low is None) != (self.high is None) or (self.low is None and not self.values):
            raise PydanticCustomError("no_domain", "expected low and high, or values")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise PydanticCustomError("no_domain", "low is above high")
        return self

    @property
    def limits(self) -> tuple[float, float]:
        """Least and greatest value, of what is no code."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    @classmethod
    def of(cls, name: ConditionName, values: NDArray[Any]) -> Self:
        """Return what (N,) values of a condition are.

        Raises:
            InputError: two particles are the same number in float32, in which networks and ONNX files are told of them.
        """
        levels = np.unique(values)
        if COLUMNS[name].whole:
            if (same := np.flatnonzero(np.diff(levels.astype(np.float32)) == 0)).size:
                first, second = (value_told(name, level) for level in levels[same[0] : same[0] + 2])
                raise InputError(
                    f"{name}: {first} and {second} are the same number for a network (float32); keep one of them"
                )
            return cls(values=tuple(float(level) for level in levels))
        few = tuple(levels.tolist()) if len(levels) <= min(FEW_VALUES, len(values) // 10) else ()
        low, high = _arc(values) if name == "phi" else (float(levels[0]), float(levels[-1]))
        return cls(low=low, high=high, values=few)

    def outside(self, name: ConditionName, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which of (N,) values lie outside, beyond what another sample of the same kind would."""
        if COLUMNS[name].whole:
            return ~np.isin(values, self.values)
        low, high = self.limits
        if name == "incident_energy":
            return np.asarray((values < low * (1 - EDGE)) | (values > high * (1 + EDGE)))
        edge = max(ANGLE_EDGE * (high - low), LEAST_ANGLE_EDGE)
        if name == "phi":
            return np.asarray(np.mod(values - low + edge, 2 * np.pi) > high - low + 2 * edge)
        return np.asarray((values < low - edge) | (values > high + edge))

    def between(self, name: ConditionName, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which of (N,) values are none of the few that there were; none where there were many."""
        if not self.values or COLUMNS[name].whole:
            return np.zeros(len(values), bool)
        away = np.abs(np.asarray(values, np.float64)[:, None] - np.asarray(self.values))
        if name == "phi":
            away = np.minimum(np.mod(away, 2 * np.pi), np.mod(-away, 2 * np.pi))
        near = EDGE * np.asarray(self.values) if name == "incident_energy" else LEAST_ANGLE_EDGE
        return np.asarray(~(away <= near).any(1))

    def told(self, name: ConditionName) -> str:
        """Say in words what the values are."""
        column = COLUMNS[name]
        if column.whole:
            return ", ".join(value_told(name, value) for value in self.values)
        low, high = self.limits
        if low == high:
            return value_told(name, low)
        text = f"{low:.6g} to {high:.6g} {column.unit}"
        if name == "phi" and high - low >= 2 * np.pi * (1 - 1e-6):
            text = "all around"
        if not self.values:
            return text
        named = ", ".join(f"{value:.6g}" for value in self.values[:_MOST_NAMED])
        more = ", ..." if len(self.values) > _MOST_NAMED else ""
        return f"{text}, {len(self.values)} values ({named}{more})"


Domains = Mapping[ConditionName, Domain]
"""What each condition was, in the order of :data:`caloforge.conditions.COLUMNS`."""


class DomainTable(Config):
    """What a file says of the conditions.

    Attributes:
        incident_energy: MeV.
        theta: rad.
        phi: rad.
        particle: PDG codes.
    """

    incident_energy: Domain
    theta: Domain | None = None
    phi: Domain | None = None
    particle: Domain | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name, domain in self.domains.items():
            column = COLUMNS[name]
            if column.whole == (domain.low is not None):
                raise PydanticCustomError("no_domain", "{name}: wrong kind of values", {"name": name})
            ends = np.asarray([*domain.values, *(domain.limits if domain.low is not None else ())])
            slack = 2 * np.pi if name == "phi" else 0.0  # an arc may end beyond a turn
            if ((ends < column.low - slack) | (ends > column.high + slack)).any():
                raise PydanticCustomError("no_domain", "{name}: no such values exist", {"name": name})
        return self

    @property
    def domains(self) -> Domains:
        """Those that are there."""
        return {name: found for name in COLUMNS if (found := getattr(self, name)) is not None}


def domains_of(conditions: Conditions) -> dict[ConditionName, Domain]:
    """Return what each condition of a sample was."""
    return {name: Domain.of(name, getattr(conditions, name)) for name in conditions.names}


def as_dict(domains: Domains) -> dict[str, Any]:
    """Return domains as JSON can hold them."""
    found: dict[str, Any] = {}
    for name, domain in domains.items():
        found[name] = domain.model_dump(mode="json", exclude_defaults=True)
        if COLUMNS[name].whole:
            found[name]["values"] = [int(code) for code in domain.values]
    return found


def value_told(name: ConditionName, value: float) -> str:
    """Say a value of a condition with its unit, of a particle with its name."""
    if not COLUMNS[name].whole:
        return f"{value:.6g} {COLUMNS[name].unit}"
    code, called = int(value), particle_name(int(value))
    return called if called == str(code) else f"{called} ({code})"


def check_inside(conditions: Conditions, domains: Domains, *, extrapolation: Extrapolation) -> None:
    """Refuse conditions that a generator cannot serve.

    Args:
        conditions: N rows; those that are not among the domains are not looked at.
        domains: what the generator was trained on.
        extrapolation: whether values outside are refused or only warned about. Particles that were not in the training
            are always refused: nothing can be said of them.

    Raises:
        InputError: there are no rows, or a condition is missing, is not finite or lies outside.
    """
    if missing := [name for name in domains if name not in conditions.names]:
        text = f"the generator needs {', '.join(domains)}; missing: {', '.join(missing)}"
        options = " ".join(f"--condition {name}=VALUE" for name in missing)
        raise InputError(f"{text} ({options})")
    if len(conditions) == 0:
        raise InputError("no showers were asked for; give at least one incident energy")
    for name, domain in domains.items():
        values, column = getattr(conditions, name), COLUMNS[name]
        if not np.isfinite(values).all():
            raise InputError(f"{name}: row {int(np.argmin(np.isfinite(values)))} is not finite")
        if (outside := domain.outside(name, values)).any():
            row = int(np.argmax(outside))
            where = "which the generator was not trained on" if column.whole else "outside the trained range"
            text = f"{name}: row {row} is {value_told(name, values[row])}, {where}"
            text += f" ({domain.told(name)})" if column.whole else f" {domain.told(name)}"
            if extrapolation == "refuse" or column.whole or not column.possible(values).all():
                raise InputError(f"{text}; {int(outside.sum())} of {len(values)} are outside")
            logger.warning("%s; sampling all the same, as the bundle allows", text)
        elif (between := domain.between(name, values)).any():
            row = int(np.argmax(between))
            logger.warning(
                "%s: row %d is %s, between the values of the training: %s; the generator interpolates",
                name, row, value_told(name, values[row]), domain.told(name),
            )  # fmt: skip


def spread_over(domains: Domains, n: int) -> Conditions:
    """Return n conditions spread over what a generator was trained on, for checks of it.

    Energies rise from the least to the greatest, evenly in log; angles go with multiples of irrational numbers, so that they
    rise with nothing; particles take turns.
    """
    columns: dict[str, NDArray[Any]] = {}
    for place, (name, domain) in enumerate(domains.items()):
        share = np.mod((np.arange(n) + 0.5) * np.sqrt((2.0, 3.0, 5.0)[place - 1]), 1) if place else np.linspace(0, 1, n)
        if domain.values:
            at = np.minimum((share * len(domain.values)).astype(int), len(domain.values) - 1)
            columns[name] = np.asarray(domain.values)[np.arange(n) % len(domain.values) if COLUMNS[name].whole else at]
            continue
        low, high = domain.limits
        columns[name] = (
            np.geomspace(low, high, n).clip(low, high) if name == "incident_energy" else low + share * (high - low)
        )
    if "phi" in columns:
        columns["phi"] = np.where(columns["phi"] > np.pi, columns["phi"] - 2 * np.pi, columns["phi"])
    return Conditions.of(columns)


def _arc(phi: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the shortest arc that holds all azimuths, the whole turn where they are all around."""
    places = np.unique(np.mod(phi, 2 * np.pi))
    gaps = np.diff(places, append=places[0] + 2 * np.pi)
    largest = int(np.argmax(gaps))
    if gaps[largest] <= max(WHOLE_TURN_GAP, 1.5 * float(np.median(gaps))) and len(places) > 1:
        return -np.pi, np.pi
    first = float(places[(largest + 1) % len(places)])
    first = first - 2 * np.pi if first > np.pi else first
    return first, first + 2 * np.pi - float(gaps[largest])
