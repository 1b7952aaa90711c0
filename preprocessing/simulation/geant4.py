"""Find Geant4: the Python binding, and the tables of cross sections that it reads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from caloforge.errors import InputError

BINDING = "geant4_pybind"
"""Module of the binding; the package on PyPI is called geant4-pybind."""

ELECTROMAGNETIC_LIST = "em"
"""Name for Geant4's G4EmStandardPhysics alone; other names are those of Geant4's reference physics lists."""

HADRONIC_LIST = "FTFP_BERT"
"""Geant4's default physics list for calorimeters, which Par04 takes too."""

DATA_SETS = {
    "G4LEDATA": "G4EMLOW",
    "G4NEUTRONHPDATA": "G4NDL",
    "G4LEVELGAMMADATA": "PhotonEvaporation",
    "G4RADIOACTIVEDATA": "RadioactiveDecay",
    "G4PARTICLEXSDATA": "G4PARTICLEXS",
    "G4PIIDATA": "G4PII",
    "G4REALSURFACEDATA": "RealSurface",
    "G4SAIDXSDATA": "G4SAIDDATA",
    "G4ABLADATA": "G4ABLA",
    "G4INCLDATA": "G4INCL",
    "G4ENSDFSTATEDATA": "G4ENSDFSTATE",
    "G4CHANNELINGDATA": "G4CHANNELING",
}
"""Environment variables of Geant4's data sets, and how the folders begin that the binding's downloader makes."""

_FOR_SHOWERS = ("G4LEDATA",)
"""What electromagnetic showers need."""

_DOWNLOADED = Path(".geant4_pybind")
"""Folder in the user's home where the binding's downloader puts the data sets."""


def physics_of(particles: Iterable[int]) -> str:
    """Return the physics list that the particles, as PDG codes, need."""
    return ELECTROMAGNETIC_LIST if {*particles} <= {11, -11, 22} else HADRONIC_LIST


def check_binding() -> str:
    """Return the version of the binding.

    Raises:
        InputError: it is not installed.
    """
    try:
        if find_spec(BINDING) is not None:
            return version("geant4-pybind")
    except PackageNotFoundError:
        pass
    raise InputError("Geant4 is not installed; pip install 'caloforge[geant4]'")


def data_environment(physics: str, scratch: Path) -> dict[str, str]:
    """Return the variables that Geant4 is to run with, so that its binding asks for nothing and downloads nothing.

    Args:
        physics: name of the physics list.
        scratch: empty folder that stands for the data sets that are missing and not needed.

    Raises:
        InputError: a data set that is needed is missing.
    """
    if (all_in_one := os.environ.get("GEANT4_DATA_DIR")) and not os.environ.get("G4LEDATA"):
        if not Path(all_in_one).is_dir():
            raise InputError(f"GEANT4_DATA_DIR: {all_in_one}: no such folder")
        return {}
    needed = _FOR_SHOWERS if physics == ELECTROMAGNETIC_LIST else tuple(DATA_SETS)
    found = {}
    for variable, name in DATA_SETS.items():
        folder = _folder(variable, name)
        if folder is None and variable in needed:
            raise InputError(
                f"Geant4's data set {name} is missing: `python -c 'import {BINDING}'` offers to download all of them (2 GB, "
                f"to ~/{_DOWNLOADED}), or set {variable} to its folder"
            )
        found[variable] = str(folder or scratch)
    # Geant4 opens this one whatever the physics.
    if found["G4ENSDFSTATEDATA"] == str(scratch):
        (scratch / "ENSDFSTATE.dat").touch()
    return found


def _folder(variable: str, name: str) -> Path | None:
    """Return the folder of a data set, None if it is not there.

    Raises:
        InputError: the environment names one that is not there.
    """
    if named := os.environ.get(variable):
        if not Path(named).is_dir():
            raise InputError(f"{variable}: {named}: no such folder of Geant4's data set {name}")
        return Path(named).absolute()
    home = Path.home() / _DOWNLOADED
    return max((one for one in home.glob(f"{name}[0-9]*") if one.is_dir()), default=None) if home.is_dir() else None
