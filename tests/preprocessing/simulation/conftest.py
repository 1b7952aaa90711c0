"""Where Geant4 is, and where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from caloforge.errors import InputError
from caloforge.preprocessing.simulation.geant4 import check_binding, data_environment


@pytest.fixture(scope="session")
def geant4(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Version of the binding; tests that need it are skipped where it or G4LEDATA is missing."""
    try:
        found = check_binding()
        data_environment("em", tmp_path_factory.mktemp("no-data"))
    except InputError as error:
        pytest.skip(str(error))
    return found


@pytest.fixture
def thin(tmp_path: Path) -> Path:
    """A detector that stops showers of 100 MeV, in a file."""
    path = tmp_path / "thin.yaml"
    path.write_text(
        "planar:\n"
        "  half_width_mm: 200\n"
        "  periods: 20\n"
        "  period: [{material: G4_W, mm: 2}, {material: G4_Si, mm: 0.5, sensitive: true}]\n"
        "mesh: {geometry: thin, layers: 10, layer_mm: 5, n_alpha: 4, rings: 3, ring_mm: 10}\n"
    )
    return path
