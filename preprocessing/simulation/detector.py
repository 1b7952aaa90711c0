"""What a calorimeter is made of and how it is read out, as a small YAML file."""

from __future__ import annotations

import math
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from caloforge.config import Config
from caloforge.errors import InputError, unknown_name
from caloforge.preprocessing.simulation.readout import Cells, FloatArray, Mesh
from caloforge.yaml_file import parse_yaml, read_yaml

Material = Annotated[str, Field(pattern=r"^G4_[A-Za-z0-9_-]+$")]
"""Name of a material in Geant4's own list (NIST)."""

Millimetres = Annotated[float, Field(gt=0, le=1e6)]


_MOST_COLUMNS = 10_000


class Slab(Config):
    """One slab of a sandwich.

    Attributes:
        material: what it is made of.
        mm: how thick it is.
        sensitive: whether what is deposited in it is read out.
    """

    material: Material
    mm: Millimetres
    sensitive: bool = False


class Sandwich(Config):
    """Slabs that repeat from the front to the back.

    Attributes:
        periods: how often.
        period: the slabs, the first one in front.
    """

    periods: int = Field(ge=1, le=10_000)
    period: tuple[Slab, ...] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _read_out(self) -> Self:
        if not any(slab.sensitive for slab in self.period):
            raise PydanticCustomError("no_sensitive", "period: no slab is sensitive; mark one with sensitive: true")
        return self

    def read_out(self, points: FloatArray) -> FloatArray:
        """Return where the deposits at some points, (n, 3) mm, are read out: there."""
        return points

    @property
    def depth_mm(self) -> float:
        """From the front to the back."""
        return self.periods * sum(slab.mm for slab in self.period)


class Barrel(Sandwich):
    """Cylinders around the beam axis, z; particles come from the origin.

    Attributes:
        inner_radius_mm: where the first slab begins.
        half_length_mm: from the middle to either end, along z.
    """

    inner_radius_mm: Millimetres
    half_length_mm: Millimetres

    normal_theta: ClassVar[float] = math.pi / 2

    def entry(self, direction: tuple[float, float, float], spot: tuple[float, ...]) -> tuple[float, float, float]:
        """Return where a particle from the origin enters, mm; it makes no use of ``spot``."""
        x, y, z = direction
        path = self.inner_radius_mm / max(math.hypot(x, y), 1e-12)
        return (path * x, path * y, path * z)

    def too_far(self, theta: float, depth_mm: float, radius_mm: float) -> str:
        """Say what of a cylinder around a particle's path lies outside; empty if nothing does.

        Args:
            theta: polar angle of the path, rad.
            depth_mm: length of the cylinder from the entry on.
            radius_mm: radius of the cylinder.
        """
        if not 0 < theta < math.pi:
            return "a particle along the beam does not reach a barrel"
        path = self.inner_radius_mm / math.sin(theta) + depth_mm
        reach = path * abs(math.cos(theta)) + radius_mm * math.sin(theta)
        if reach <= self.half_length_mm:
            return ""
        return f"the shower would reach z = {reach:.4g} mm, and the barrel ends at {self.half_length_mm:g} mm"


class Plane(Config):
    """What planar calorimeters have in common: the front is z = 0, and particles enter at the origin.

    Attributes:
        half_width_mm: from the middle to either side, along x and y.
    """

    half_width_mm: Millimetres

    normal_theta: ClassVar[float] = 0.0

    def entry(self, direction: tuple[float, float, float], spot: tuple[float, ...]) -> tuple[float, float, float]:
        """Return where a particle enters, mm; it makes no use of ``spot``."""
        return (0.0, 0.0, 0.0)

    def too_far(self, theta: float, depth_mm: float, radius_mm: float) -> str:
        """Say what of a cylinder around a particle's path lies outside, see :meth:`Barrel.too_far`."""
        if not 0 <= theta < math.pi / 2:
            return "the particle does not come from the front, where theta is less than pi/2"
        reach = depth_mm * math.sin(theta) + radius_mm * math.cos(theta)
        if reach <= self.half_width_mm:
            return ""
        return (
            f"the shower would reach {reach:.4g} mm to the side, and the calorimeter ends at {self.half_width_mm:g} mm"
        )


class Planar(Sandwich, Plane):
    """Slabs across the beam axis."""


class Rod(Config):
    """A cylinder along the beam axis.

    Attributes:
        material: what it is made of.
        radius_mm: its radius.
        sensitive: whether what is deposited in it is read out.
    """

    material: Material
    radius_mm: Millimetres
    sensitive: bool = False


class Fibres(Plane):
    """A block of fibres along the beam axis, in a square grid.

    A particle enters somewhere in the unit of the grid around the origin, as one of a beam that is wider than it: always
    at the same place it would always, or never, hit a fibre.

    Attributes:
        length_mm: from the front to the back.
        pitch_mm: from fibre to fibre.
        fill: what is between the outermost rods.
        rods: cylinders in each other, the outermost first: a tube and the fibre in it, for example.
    """

    length_mm: Millimetres
    pitch_mm: Millimetres
    fill: Material
    rods: tuple[Rod, ...] = Field(min_length=1, max_length=10)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        radii = [self.pitch_mm / 2, *(rod.radius_mm for rod in self.rods)]
        text = ""
        if any(inner > outer for outer, inner in pairwise(radii)):
            text = f"rods: expected radii that fall, the first at most half of the pitch, got {radii[1:]}"
        elif not any(rod.sensitive for rod in self.rods):
            text = "rods: none is sensitive; mark one with sensitive: true"
        elif not 1 <= self.columns <= _MOST_COLUMNS:
            text = f"half_width_mm: {self.columns} fibres side by side; expected 1 to {_MOST_COLUMNS}"
        if text:
            raise PydanticCustomError("fibres", "{text}", {"text": text})
        return self

    @property
    def depth_mm(self) -> float:
        """From the front to the back."""
        return self.length_mm

    @property
    def columns(self) -> int:
        """Number of fibres side by side, along x and along y."""
        return int(2 * self.half_width_mm / self.pitch_mm + 1e-9)

    def entry(self, direction: tuple[float, float, float], spot: tuple[float, ...]) -> tuple[float, float, float]:
        """Return where a particle enters, mm; ``spot`` as of :class:`~caloforge.preprocessing.simulation.beam.Shot`."""
        return ((spot[0] - 0.5) * self.pitch_mm, (spot[1] - 0.5) * self.pitch_mm, 0.0)

    def read_out(self, points: FloatArray) -> FloatArray:
        """Return where the deposits at some points, (n, 3) mm, are read out: in the middle of their fibre."""
        half = self.columns / 2
        found = points.copy()
        found[:, :2] = (np.floor(points[:, :2] / self.pitch_mm + half) - half + 0.5) * self.pitch_mm
        return found


_VOLUMES, _READOUTS = ("barrel", "planar", "fibres"), ("mesh", "cells")

Volume = Barrel | Planar | Fibres


class Detector(Config):
    """A calorimeter.

    Attributes:
        barrel: what it is made of, if it is a barrel.
        planar: what it is made of, if it is a stack of planes.
        fibres: what it is made of, if it is a block of fibres.
        mesh: how it is read out, if that is in cylinders around the particle's path.
        cells: how it is read out, if that is in cells of its own.
        cut_mm: production cut of Geant4: secondaries of less range are not tracked.
        scale: by which deposits are multiplied; 1 / sampling fraction where showers are to add up to the incident energy.
        threshold_mev: deposits in a voxel below it become 0, before ``scale``.
    """

    barrel: Barrel | None = None
    planar: Planar | None = None
    fibres: Fibres | None = None
    mesh: Mesh | None = None
    cells: Cells | None = None
    cut_mm: Millimetres = 0.7
    scale: float = Field(default=1.0, gt=0, le=1e6)
    threshold_mev: float = Field(default=5e-4, gt=0, le=1e3)

    @model_validator(mode="after")
    def _holds_a_shower(self) -> Self:
        for names in (_VOLUMES, _READOUTS):
            if len(given := [name for name in names if getattr(self, name) is not None]) != 1:
                text = f"expected one of {', '.join(names)}, got {' and '.join(given) or 'none'}"
                raise PydanticCustomError("parts", "{text}", {"text": text})
        if self.barrel is not None and self.cells is not None:
            text = "cells: are for what has a front; a barrel is read out in a mesh"
            raise PydanticCustomError("cells", "{text}", {"text": text})
        if why := self._too_far(self.volume.normal_theta):
            raise PydanticCustomError("too_far", "{why}", {"why": f"{'cells' if self.mesh is None else 'mesh'}: {why}"})
        if self.mesh is not None and self.mesh.depth_mm > self.volume.depth_mm * (1 + 1e-6):
            text = f"mesh: is {self.mesh.depth_mm:g} mm deep, and the calorimeter {self.volume.depth_mm:g} mm"
            raise PydanticCustomError("too_deep", "{text}", {"text": text})
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return the description as plain values, without what it has not."""
        return self.model_dump(mode="json", exclude_none=True)

    @property
    def files(self) -> list[Path]:
        """What it is made of on this machine: a table of cells."""
        return [Path(self.cells.geometry)] if self.cells is not None and Path(self.cells.geometry).is_file() else []

    @property
    def volume(self) -> Volume:
        """What it is made of."""
        found: Volume = next(volume for name in _VOLUMES if (volume := getattr(self, name)) is not None)
        return found

    @property
    def readout(self) -> Mesh | Cells:
        """How it is read out."""
        found: Mesh | Cells = next(one for one in (self.mesh, self.cells) if one is not None)
        return found

    def check_theta(self, low: float, high: float) -> None:
        """Refuse polar angles at which a shower would not lie in the calorimeter.

        Args:
            low: least angle, rad.
            high: greatest angle.

        Raises:
            InputError: one of them is such an angle; those that are none are named.
        """
        for theta in (low, high):
            if why := self._too_far(theta):
                least, greatest = self._furthest(-1), self._furthest(1)
                raise InputError(f"theta {theta:.4g}: {why}; from {least:.4f} to {greatest:.4f} rad it holds a shower")

    def _too_far(self, theta: float) -> str:
        if self.mesh is not None:
            return self.volume.too_far(theta, self.mesh.depth_mm, self.mesh.radius_mm)
        # Cells stay where they are: what is inclined must not leave the calorimeter at its side.
        straight = theta == self.volume.normal_theta
        return self.volume.too_far(theta, self.volume.depth_mm, self.readout.radius_mm if straight else 0.0)

    def _furthest(self, side: int) -> float:
        """Return the last angle on one side of normal incidence that holds a shower, rad, rounded to the safe side."""
        good = self.volume.normal_theta
        bad = min(max(good + side * math.pi / 2, 0.0), math.pi)
        if bad == good or not self._too_far(bad):
            return bad
        for _ in range(40):
            middle = (good + bad) / 2
            good, bad = (good, middle) if self._too_far(middle) else (middle, bad)
        return (math.floor if side > 0 else math.ceil)(good * 1e4) / 1e4


def detector_names() -> list[str]:
    """Return the names of the detectors that come with the package."""
    folder = files("caloforge.preprocessing.simulation") / "detectors"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_detector(name_or_path: str | Path) -> Detector:
    """Return a detector by the name it has in the package, or from a YAML file.

    Raises:
        InputError: there is neither such a name nor such a file, or the file does not describe a detector.
    """
    name, path = str(name_or_path), Path(name_or_path)
    if name in detector_names():
        file = files("caloforge.preprocessing.simulation") / "detectors" / f"{name}.yaml"
        return Detector.parse(parse_yaml(file.read_text(encoding="utf-8"), where=name), where=name)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise unknown_name("detector (or path of a .yaml that describes one)", name, detector_names())
    return Detector.parse(read_yaml(path), where=name)
