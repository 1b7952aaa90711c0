"""The doors of this floor, one line for each name. Nothing is imported before it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloforge.registry import Registry

if TYPE_CHECKING:
    from caloforge.validation.protocols import Protocol

PROTOCOLS: Registry[Protocol] = Registry(
    "protocol",
    {
        "quick": "caloforge.validation.protocols:QUICK",
        "challenge": "caloforge.validation.protocols:CHALLENGE",
        "challenge-ten-trainings": "caloforge.validation.protocols:CHALLENGE_TEN_TRAININGS",
        "challenge-no-networks": "caloforge.validation.protocols:CHALLENGE_NO_NETWORKS",
    },
    group="caloforge.protocols",
)
"""Ways to judge showers, by the name that ``--protocol`` takes."""
