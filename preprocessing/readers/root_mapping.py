"""What says how ROOT trees are to be read: a YAML or JSON file that names files, tree, branches, units and cells."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from caloforge.config import Config
from caloforge.errors import InputError
from caloforge.yaml_file import read_yaml

MEV = {"eV": 1e-6, "keV": 1e-3, "MeV": 1.0, "GeV": 1e3, "TeV": 1e6}
MM = {"um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1e3}
RAD = {"rad": 1.0, "mrad": 1e-3, "deg": math.pi / 180}

MAPPINGS = (".yaml", ".yml", ".json")
"""How files end that may be mappings."""

Energy = Literal["eV", "keV", "MeV", "GeV", "TeV"]


class Hits(Config):
    """The energies of an event, and where they belong: a place, a channel, or the order of the voxels.

    Attributes:
        energy: branch, a vector or an array of numbers for each event.
        energy_unit: of one unit of ``energy_scale`` times ``energy``.
        energy_scale: factor, for energies that are counts of something.
        x: branch, a vector as long as ``energy``.
        y: likewise.
        length_unit: of x and y.
        channel: branch, a vector as long as ``energy``: names of cells in place of x and y.
        layer: branch, a vector as long as ``energy``: numbers of layers from 0; needed with x and y of several layers.
    """

    energy: str = Field(min_length=1)
    energy_unit: Energy
    energy_scale: float = Field(default=1.0, gt=0)
    x: str = ""
    y: str = ""
    length_unit: Literal["um", "mm", "cm", "m"] | None = None
    channel: str = ""
    layer: str = ""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if bool(self.x) != bool(self.y) or (self.x and self.channel):
            raise _refused("give either x and y, or channel, or neither of them: energies in the order of the cells")
        if self.x and self.length_unit is None:
            raise _refused("x and y need a length_unit: mm, cm, ...")
        if self.layer and not self.x:
            raise _refused("layer belongs to x and y; channels and voxels have their layer")
        return self


class Quantity(Config):
    """A condition: one number for each event, or one for a file.

    Attributes:
        branch: one number for each event.
        parameter: name of a TParameter of the file.
        value: a number.
    """

    branch: str = ""
    parameter: str = ""
    value: float | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.branch) + bool(self.parameter) + (self.value is not None) != 1:
            raise _refused("give one of branch, parameter (a TParameter of the file) and value")
        return self


class EnergyOf(Quantity):
    """An energy.

    Attributes:
        unit: eV, keV, MeV, GeV or TeV.
    """

    unit: Energy


class AngleOf(Quantity):
    """An angle.

    Attributes:
        unit: rad, mrad or deg.
    """

    unit: Literal["rad", "mrad", "deg"]


class RootMapping(Config):
    """How trees are read.

    Attributes:
        files: ROOT files or patterns of them, from the mapping's folder on.
        tree: name of the tree in each of them.
        geometry: cells, by name, or as a CSV or binning XML file, from the mapping's folder on.
        hits: the energies of each event.
        incident_energy: energy of the particle.
        theta: its polar angle.
        eta: its pseudorapidity, in place of theta.
        phi: its azimuth.
        particle: its PDG code.
    """

    files: tuple[str, ...] = Field(min_length=1)
    tree: str = Field(min_length=1)
    geometry: str = Field(min_length=1)
    hits: Hits
    incident_energy: EnergyOf
    theta: AngleOf | None = None
    eta: Quantity | None = None
    phi: AngleOf | None = None
    particle: Quantity | None = None

    @model_validator(mode="after")
    def _one_polar_angle(self) -> Self:
        if self.theta is not None and self.eta is not None:
            raise _refused("give theta or eta, not both")
        return self

    def quantities(self) -> dict[str, tuple[Quantity, float]]:
        """Return the conditions that are there (eta among them), and the factor that makes MeV or rad of each."""
        found: dict[str, tuple[Quantity, float]] = {
            "incident_energy": (self.incident_energy, MEV[self.incident_energy.unit])
        }
        for name, angle in (("theta", self.theta), ("phi", self.phi)):
            if angle is not None:
                found[name] = (angle, RAD[angle.unit])
        for name, one in (("eta", self.eta), ("particle", self.particle)):
            if one is not None:
                found[name] = (one, 1.0)
        return found


def is_mapping(path: Path) -> bool:
    """Return whether a file is YAML or JSON with the keys that every mapping has."""
    if path.suffix.lower() not in MAPPINGS or not path.is_file():
        return False
    try:
        values: Any = read_yaml(path)
    except InputError:
        return False
    return isinstance(values, dict) and {"tree", "hits"} <= set(values)


def _refused(text: str) -> PydanticCustomError:
    # A plain ValueError's text would get pydantic's own prefix.
    return PydanticCustomError("refused", "{text}", {"text": text})
