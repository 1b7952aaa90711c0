"""The doors of this floor, one line for each name. Nothing is imported before it is asked for."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from caloforge.errors import InputError
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

GROUP = "caloforge.validation"
"""Entry-point group of modules that add observables, metrics and figures when they are imported."""


def import_installed() -> None:
    """Import the modules of other packages that add to what is judged.

    Raises:
        InputError: one cannot be imported.
    """
    for point in entry_points(group=GROUP):
        try:
            import_module(point.value)
        except ImportError as error:
            msg = f"entry point {point.name!r} of {GROUP}: {point.value} cannot be imported ({error}); mend or uninstall it"
            raise InputError(msg) from error
