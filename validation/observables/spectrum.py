"""What the distribution metrics judge beside the observables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spectrum:
    """What the distribution metrics judge beside the observables: a distribution without a value per shower.

    Attributes:
        title: what it is called in tables.
        phrase: what a sentence calls it; ``{part}`` is the part that is worst.
        unit: of its coordinate.
        group: heading of the report.
    """

    title: str
    phrase: str
    unit: str
    group: str


SPECTRA: dict[str, Spectrum] = {
    "voxel_energy": Spectrum("Voxel energy", "voxel energy", "decades", "Profiles"),
    "voxel_energy_groups": Spectrum(
        "Voxel energy in groups of layers", "voxel energy in {part}", "decades", "Profiles"
    ),
    "response_by_energy": Spectrum(
        "Total response at each incident energy", "total response at each incident energy", "", "Energy"
    ),
}
"""By the name that the distribution metrics give their results."""
