from __future__ import annotations

import builtins
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward
import numpy as np
import pytest
import uproot
import yaml

from caloforge.errors import InputError
from caloforge.geometry import CellGeometry, load_geometry
from caloforge.preprocessing.convert import convert
from caloforge.preprocessing.readers.find import open_sources
from caloforge.preprocessing.readers.root import ROOT
from caloforge.showers import open_showers

FOCAL = load_geometry("focal_h_prototype_2")
assert isinstance(FOCAL, CellGeometry)


def hits(n: int, *, seed: int = 0) -> dict[str, Any]:
    """Return n events: hits in cells of FoCal-H, some twice, one beside all of them."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 30, n)
    cell = rng.integers(0, FOCAL.n_voxels, counts.sum())
    inside = rng.uniform(-0.45, 0.45, (2, counts.sum()))
    x = FOCAL.eta_of_voxel[cell] + inside[0] * FOCAL.width_of_voxel[cell]
    y = FOCAL.phi_of_voxel[cell] + inside[1] * FOCAL.height_of_voxel[cell]
    value = rng.integers(1, 1000, counts.sum()).astype(np.uint32)
    return {"counts": counts, "cell": cell, "x": x, "y": y, "value": value, "energy": rng.uniform(60, 350, n)}


def tree(path: Path, made: dict[str, Any], *, branch: str = "E") -> Path:
    jagged = {name: awkward.unflatten(made[name], made["counts"]) for name in ("x", "y", "value", "cell")}
    kinds = {"x_pos": "var * float64", "y_pos": "var * float64", "value": "var * uint32", "channel": "var * int32"}
    with uproot.recreate(path) as file:
        file.mktree("T", {**kinds, branch: "float64", "eta": "float64"})
        columns = {
            "x_pos": jagged["x"] / 10, "y_pos": jagged["y"] / 10, "value": jagged["value"],  # cm
            "channel": awkward.values_astype(jagged["cell"], np.int32), branch: made["energy"],
            "eta": np.full(len(made["counts"]), 4.0),
        }  # fmt: skip
        for start in range(0, len(made["counts"]), 200):  # a basket each
            file["T"].extend({name: column[start : start + 200] for name, column in columns.items()})
    return path


MAPPING: dict[str, Any] = {
    "files": ["*.root"],
    "tree": "T",
    "geometry": "focal_h_prototype_2",
    "hits": {
        "x": "x_pos",
        "y": "y_pos",
        "energy": "value",
        "length_unit": "cm",
        "energy_unit": "MeV",
        "energy_scale": 0.5,
    },
    "incident_energy": {"branch": "E", "unit": "GeV"},
    "particle": {"value": 211},
}


def mapping(folder: Path, **changes: Any) -> Path:
    path = folder / "focal.yaml"
    path.write_text(yaml.safe_dump({**MAPPING, **changes}), encoding="utf-8")
    return path


def error_of(source: Path) -> str:
    with pytest.raises(InputError) as error:
        list(open_sources([source])[1].pairs())
    assert "\n" not in str(error.value)
    return str(error.value)


def expected(made: dict[str, Any]) -> Any:
    event = np.repeat(np.arange(len(made["counts"])), made["counts"])
    voxels = np.zeros((len(made["counts"]), FOCAL.n_voxels))
    np.add.at(voxels, (event, made["cell"]), 0.5 * made["value"])
    return voxels


def test_hits_are_sorted_into_the_cells_that_hold_them(tmp_path: Path) -> None:
    first, second = hits(40), hits(30, seed=1)
    tree(tmp_path / "run_1.root", first)
    tree(tmp_path / "run_2.root", second)
    source = mapping(tmp_path, eta={"branch": "eta"})
    form, stream = open_sources([source])
    assert form == "root"
    assert [path.name for path in stream.files] == ["focal.yaml", "run_1.root", "run_2.root"]
    convert([source], tmp_path / "out.hdf5")
    showers = open_showers(tmp_path / "out.hdf5")
    assert np.allclose(showers.read(), np.concatenate([expected(first), expected(second)]))
    conditions = showers.conditions
    assert np.allclose(
        conditions.incident_energy, 1000 * np.concatenate([first["energy"], second["energy"]]), rtol=1e-6
    )
    assert conditions.theta is not None
    assert np.allclose(-np.log(np.tan(conditions.theta / 2)), 4.0, rtol=1e-5)
    assert conditions.particle is not None
    assert set(conditions.particle) == {211}
    assert showers.geometry.difference(FOCAL) is None


def test_hits_may_name_their_channel_or_come_in_the_order_of_the_cells(tmp_path: Path) -> None:
    made = hits(20)
    tree(tmp_path / "a.root", made)
    lines = [f"{i},{cell.x},{cell.y},{cell.width}" for i, cell in enumerate(FOCAL.cells)]
    (tmp_path / "map.csv").write_text("\n".join(["channel,x,y,size", *lines[::-1]]), encoding="utf-8")
    source = mapping(tmp_path, geometry="map.csv", hits={"channel": "channel", "energy": "value", "energy_unit": "MeV"})
    voxels = next(open_sources([source])[1].pairs())[1]
    assert np.allclose(voxels[:, ::-1], 2 * expected(made))
    (tmp_path / "map.csv").write_text("\n".join(["channel,x,y,size", *lines[:100]]), encoding="utf-8")
    assert "from event 0 on: channel 100 is not in 'map', whose 100 channels begin with 0, 1, 2, 3" in error_of(source)
    (tmp_path / "map.csv").write_text("\n".join(["channel,x,y,size", *lines, lines[0]]), encoding="utf-8")
    assert "map.csv: channel 0 is there twice" in error_of(source)
    (tmp_path / "map.csv").write_text("channel,x,y,size\n1,0,0,10\n2,5,0,10", encoding="utf-8")
    assert "overlap" in error_of(source)
    plain = hits(3)
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("T", {"value": ("float32", (249,)), "E": "float64"})
        file["T"].extend({"value": np.ones((3, 249), np.float32), "E": plain["energy"]})
    source = mapping(tmp_path, hits={"energy": "value", "energy_unit": "keV"})
    assert np.allclose(next(open_sources([source])[1].pairs())[1], 1e-3)


def test_hits_of_a_mesh_of_rings(tmp_path: Path) -> None:
    made = hits(10)
    tree(tmp_path / "a.root", made)
    (tmp_path / "rings.xml").write_text(
        '<Bins><Bin pid="211" name="pion"><Layer id="0" r_edges="0,50,100" n_bin_alpha="4"/></Bin></Bins>',
        encoding="utf-8",
    )
    voxels = next(open_sources([mapping(tmp_path, geometry="rings.xml")])[1].pairs())[1]
    r, alpha = np.hypot(made["x"], made["y"]), np.arctan2(made["y"], made["x"])
    event = np.repeat(np.arange(10), made["counts"])
    inside = r < 100
    cell = ((alpha + np.pi) // (np.pi / 2)).astype(int) * 2 + (r >= 50)
    wanted = np.zeros((10, 8))
    np.add.at(wanted, (event[inside], cell[inside]), 0.5 * made["value"][inside])
    assert np.allclose(voxels, wanted)


def test_energy_beside_all_cells_is_told_and_much_of_it_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = hits(20)
    made["x"][0] = 500.0
    tree(tmp_path / "a.root", made)
    list(open_sources([mapping(tmp_path)])[1].pairs())
    assert "of the energy is in no cell of focal_h_prototype_2" in caplog.text
    wrong = {**MAPPING["hits"], "length_unit": "m"}
    assert "is in no cell of 'focal_h_prototype_2': are length_unit and the cells (mm) right" in error_of(
        mapping(tmp_path, hits=wrong)
    )


def test_a_parameter_of_the_file_is_the_energy_of_its_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uproot reads a TParameter and cannot write one: what it gives is put in the place of a text."""
    tree(tmp_path / "a.root", hits(4))
    with uproot.update(tmp_path / "a.root") as file:
        file["energy"] = "80"
    source = mapping(tmp_path, incident_energy={"parameter": "energy", "unit": "GeV"})
    assert "'energy' is no TParameter with a number, but TObjString" in error_of(source)
    of_file = uproot.ReadOnlyDirectory.__getitem__
    monkeypatch.setattr(
        uproot.ReadOnlyDirectory, "__getitem__",
        lambda file, name: SimpleNamespace(value=80) if name == "energy" else of_file(file, name),
    )  # fmt: skip
    conditions, _ = next(open_sources([source])[1].pairs())
    assert conditions.incident_energy.tolist() == [8e4] * 4
    missing = mapping(tmp_path, incident_energy={"parameter": "Energie", "unit": "GeV"})
    assert "has no TParameter 'Energie' (found: T, energy)" in error_of(missing)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tree": "Events"}, "a.root: has no tree 'Events' (found: T)"),
        ({"hits": {**MAPPING["hits"], "energy": "dep"}}, "a.root: tree 'T' has no branch 'dep' (found: E, channel, eta,"),
        ({"incident_energy": {"branch": "E0", "unit": "GeV"}}, "a.root: tree 'T' has no branch 'E0'"),
        ({"incident_energy": {"branch": "value", "unit": "GeV"}}, "branch 'value': expected a number for each event"),
        ({"incident_energy": {"branch": "E", "unit": "TeV"}}, ""),
        ({"incident_energy": {"branch": "E", "unit": "PeV"}}, "incident_energy.unit: Input should be 'eV', 'keV'"),
        ({"incident_energy": {"unit": "GeV"}}, "incident_energy: give one of branch, parameter"),
        ({"hits": {"x": "x_pos", "energy": "value", "energy_unit": "MeV"}}, "hits: give either x and y, or channel"),
        ({"hits": {"x": "x_pos", "y": "y_pos", "energy": "value", "energy_unit": "MeV"}}, "x and y need a length_unit"),
        ({"geometry": "calogan"}, "'calogan' (3 layers, 504 voxels) has several layers: hits need a branch layer"),
        ({"geometry": "nowhere.csv"}, "nowhere.csv: the table of cells cannot be read"),
        ({"files": ["run*.root"]}, "files: nothing is called 'run*.root'"),
        ({"theta": {"value": 1, "unit": "rad"}, "eta": {"value": 4}}, "give theta or eta, not both"),
        ({"branches": []}, "unknown key 'branches'"),
        ({"tree": "T/E"}, "a.root: "),
        ({"tree": ""}, "tree: String should have at least 1 character"),
        ({"hits": {**MAPPING["hits"], "energy": ""}}, "hits.energy: String should have at least 1 character"),
        ({"particle": {"value": 1.5}}, "incident_pdg"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    tree(tmp_path / "a.root", hits(5))
    source = mapping(tmp_path, **changes)
    if message:
        assert message in error_of(source)
    else:
        assert len(open_sources([source])[1]) == 5


@pytest.mark.parametrize(
    ("changes", "hits_of", "message"),
    [
        ({"energy": np.ones(5)}, {"energy": "energy"}, "branch 'energy': expected a vector of numbers for each event"),
        ({"x": np.ones(5)}, {"x": "x"}, "branch 'x': expected a vector of numbers for each event"),
        ({"layer": np.full((5, 2), 0.5)}, {"layer": "layer"}, "branch 'layer': 0.5 is not the number of a layer"),
        ({"layer": np.full((5, 2), np.nan)}, {"layer": "layer"}, "branch 'layer': nan is not the number of a layer"),
        ({"layer": np.zeros((5, 2), bool)}, {"energy": "layer"}, "branch 'layer': expected a vector of numbers"),
    ],
    ids=str,
)
def test_branches_of_another_kind_are_named(
    tmp_path: Path, changes: dict[str, Any], hits_of: dict[str, str], message: str
) -> None:
    columns = {"energy": np.ones((5, 2)), "x": np.ones((5, 2)), "y": np.ones((5, 2)), "E": np.full(5, 10.0), **changes}
    with uproot.recreate(tmp_path / "a.root") as file:
        file["T"] = {
            name: awkward.Array([*map(list, values)]) if values.ndim == 2 else values
            for name, values in columns.items()
        }
    of = {"x": "x", "y": "y", "energy": "energy", "length_unit": "mm", "energy_unit": "MeV", **hits_of}
    source = mapping(tmp_path, hits=of, incident_energy={"branch": "E", "unit": "GeV"})
    assert message in error_of(source)


@pytest.mark.parametrize("text", ["tree: T\nhits: [", "tree: T\ntree: U\nhits: {}\n", '{"tree": "T", "hits":'])
def test_a_mapping_that_is_no_yaml_is_told_as_that(tmp_path: Path, text: str) -> None:
    path = tmp_path / "focal.yaml"
    path.write_text(text, encoding="utf-8")
    said = error_of(path)
    assert "focal.yaml: " in said
    assert "HDF5" not in said


def test_a_file_without_a_name_is_refused(tmp_path: Path) -> None:
    tree(tmp_path / "a.root", hits(5))
    assert "files: holds an empty name" in error_of(mapping(tmp_path, files=["a.root", ""]))


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.95])
def test_a_file_that_is_cut_off_is_told_so(tmp_path: Path, kept: float) -> None:
    path = tree(tmp_path / "a.root", hits(500))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "is it a whole ROOT file? copy it again" in error_of(mapping(tmp_path))


def test_a_root_file_alone_wants_a_mapping(tmp_path: Path) -> None:
    path = tree(tmp_path / "a.root", hits(5))
    text = error_of(path)
    assert "a.root: holds a ROOT file, which says neither its units nor where its channels are" in text
    assert "docs/formats.md" in text


def test_what_is_missing_is_said_with_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "a.root", hits(5))
    given = builtins.__import__

    def without_uproot(name: str, *rest: Any, **more: Any) -> Any:
        if name == "uproot":
            raise ImportError(name)
        return given(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_uproot)
    assert "pip install 'caloforge[root]'" in error_of(mapping(tmp_path))


def test_memory_does_not_grow_with_the_number_of_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caloforge.preprocessing.readers.root.CHUNK_BYTES", 8 * 249 * 100)
    source = mapping(tmp_path)

    def peak(n: int) -> int:
        made = hits(n)
        tree(tmp_path / "a.root", made)
        del made
        stream = ROOT.open(source, None, None)
        tracemalloc.start()
        for _ in stream.pairs():
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)  # what is imported and kept
    assert peak(4000) < 1.5 * peak(1000)
