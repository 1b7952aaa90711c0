"""The door of this floor, one line for each name. Nothing is imported before it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloforge.registry import Registry

if TYPE_CHECKING:
    from caloforge.preprocessing.readers.reader import Reader

READERS: Registry[Reader] = Registry(
    "format",
    {
        "calochallenge": "caloforge.preprocessing.readers.calochallenge:CALOCHALLENGE",
        "par04": "caloforge.preprocessing.readers.par04:PAR04",
        "par04_energies": "caloforge.preprocessing.readers.par04_energies:PAR04_ENERGIES",
        "lemurs": "caloforge.preprocessing.readers.lemurs:LEMURS",
        "atlas_csv": "caloforge.preprocessing.readers.atlas_csv:ATLAS_CSV",
        "calogan": "caloforge.preprocessing.readers.calogan:CALOGAN",
        "root": "caloforge.preprocessing.readers.root:ROOT",
    },
    group="caloforge.readers",
)
"""Formats of shower files, each with its reader."""
