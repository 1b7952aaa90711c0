"""What a detector is hit by: particles, energies and angles, the same for a shower's number on every machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from caloforge.config import Config
from caloforge.errors import InputError
from caloforge.particles import NAMES, particle_name, pdg_code


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[1] < limits[0]:
        raise PydanticCustomError("range", "expected LEAST:GREATEST, or one number")
    return limits


def _twice(value: Any) -> Any:
    return (value, value) if isinstance(value, int | float) else value


Range = Annotated[tuple[float, float], BeforeValidator(_twice), AfterValidator(_rising)]
"""Least and greatest value; twice the same for a fixed one."""


class Beam(Config):
    """What is shot at the detector.

    Attributes:
        particles: names, as of Geant4; each shower begins with one of them, all equally likely.
        energy: kinetic, MeV; log-uniform over a range.
        theta: polar angle, rad, uniform in its cosine; None: at right angles to the front.
        phi: azimuth, rad, uniform; None: 0 where ``theta`` is None too, or else all around.
    """

    particles: tuple[str, ...] = Field(default=("e-",), min_length=1, max_length=100)
    energy: Range
    theta: Range | None = None
    phi: Range | None = None

    @field_validator("particles")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            names = tuple(particle_name(pdg_code(one)) for one in value)
        except InputError as error:
            raise PydanticCustomError("particle", "{text}", {"text": str(error)}) from None
        for name in names:
            if name not in NAMES:
                text = f"unknown particle {name} (choose one of {', '.join(NAMES)})"
                raise PydanticCustomError("particle", "{text}", {"text": text})
        if len(set(names)) < len(names):
            raise PydanticCustomError("repeated", "a particle is named twice")
        return names

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.energy[0] < LEAST_MEV or self.energy[1] > MOST_MEV:
            text = f"energy: expected {LEAST_MEV:g} to {MOST_MEV:g} MeV"
            raise PydanticCustomError("energy", "{text}", {"text": text})
        for name, values, least, greatest in (
            ("theta", self.theta, 0.0, math.pi),
            ("phi", self.phi, -2 * math.pi, 2 * math.pi),
        ):
            if values is not None and (values[0] < least - _ROUNDING or values[1] > greatest + _ROUNDING):
                text = f"{name}: expected {least:.5g} to {greatest:.5g} rad, got {values[0]:g} to {values[1]:g}"
                hint = "; is it in degrees?" if values[1] > 7 else ""
                raise PydanticCustomError("angle", "{text}", {"text": text + hint})
        return self

    @property
    def codes(self) -> tuple[int, ...]:
        """PDG codes of the particles."""
        return tuple(NAMES[name] for name in self.particles)

    def shot(self, seed: int, number: int, *, normal_theta: float) -> Shot:
        """Return what begins a shower.

        Args:
            seed: of the sample.
            number: of the shower in it, from 0.
            normal_theta: polar angle at right angles to the detector's front.
        """
        draws = np.random.default_rng([seed, number])
        particle, energy, cosine, azimuth = draws.random(4)
        low, high = map(math.log, self.energy)
        theta, phi = normal_theta, 0.0
        if self.theta is not None:
            ends = math.cos(self.theta[0]), math.cos(self.theta[1])
            theta = self.theta[0] if ends[0] == ends[1] else math.acos(ends[0] + cosine * (ends[1] - ends[0]))
        if (around := self.phi or ((-math.pi, math.pi) if self.theta is not None else None)) is not None:
            phi = around[0] + azimuth * (around[1] - around[0])
        return Shot(
            particle=self.particles[int(particle * len(self.particles))],
            energy=self.energy[0] if low == high else math.exp(low + energy * (high - low)),
            theta=theta,
            phi=phi,
            # Geant4's engine takes positive numbers of 31 bits.
            seeds=tuple(int(one) for one in draws.integers(1, 2**31 - 1, size=2)),
            spot=tuple(float(one) for one in draws.random(2)),
        )


LEAST_MEV, MOST_MEV = 1.0, 1e8
"""Kinetic energies; Geant4's models end at 100 TeV."""

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Shot:
    """What begins one shower.

    Attributes:
        particle: its name in Geant4.
        energy: kinetic, MeV.
        theta: polar angle, rad.
        phi: azimuth, rad.
        seeds: of Geant4's random numbers.
        spot: two numbers from 0 to 1, where in the unit of a periodic front it enters.
    """

    particle: str
    energy: float
    theta: float
    phi: float
    seeds: tuple[int, ...]
    spot: tuple[float, ...]
