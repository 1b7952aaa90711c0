from __future__ import annotations

from pathlib import Path

import pytest

from caloforge.errors import InputError
from caloforge.preprocessing.simulation import geant4
from caloforge.preprocessing.simulation.geant4 import DATA_SETS, check_binding, data_environment, physics_of


@pytest.fixture(autouse=True)
def _no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*DATA_SETS, "GEANT4_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_without_the_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geant4, "BINDING", "no_such_module")
    with pytest.raises(InputError, match=r"pip install 'caloforge\[geant4\]'"):
        check_binding()


def test_without_data_sets(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"G4EMLOW is missing.*import geant4_pybind.*or set G4LEDATA"):
        data_environment("em", tmp_path)


def test_a_variable_that_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("G4LEDATA", str(tmp_path / "gone"))
    with pytest.raises(InputError, match=r"G4LEDATA: .*gone: no such folder of Geant4's data set G4EMLOW"):
        data_environment("em", tmp_path)


def test_electromagnetic_showers_need_one_data_set_and_geant4_asks_for_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, scratch = tmp_path / "data", tmp_path / "scratch"
    data.mkdir()
    scratch.mkdir()
    monkeypatch.setenv("G4LEDATA", str(data))
    found = data_environment("em", scratch)
    assert found.keys() == DATA_SETS.keys()
    assert found["G4LEDATA"] == str(data)
    assert all(Path(folder).is_dir() for folder in found.values())
    assert (scratch / "ENSDFSTATE.dat").is_file()
    with pytest.raises(InputError, match="G4NDL is missing"):
        data_environment("FTFP_BERT", scratch)


def test_what_the_bindings_own_downloader_left_is_found(tmp_path: Path) -> None:
    for name in DATA_SETS.values():
        (tmp_path / ".geant4_pybind" / f"{name}8.8").mkdir(parents=True)
    found = data_environment("FTFP_BERT", tmp_path)
    assert found["G4LEDATA"] == str(tmp_path / ".geant4_pybind" / "G4EMLOW8.8")
    assert str(tmp_path) not in found.values()


def test_hadrons_and_muons_need_a_hadronic_list() -> None:
    assert physics_of([11, -11, 22]) == "em"
    assert physics_of([11, 211]) == "FTFP_BERT"
    assert physics_of([13]) == "FTFP_BERT"
