from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.geometry import (
    CylindricalGeometry,
    Layer,
    geometry_attributes,
    geometry_names,
    geometry_of,
    load_geometry,
    stored_geometry,
    write_geometry,
)

# Binning of the CaloChallenge: (voxels, active layers, voxels of the first layers).
CHALLENGE = {
    "dataset_1_photons": (368, 5, [8, 160, 190, 5, 5]),
    "dataset_1_pions": (533, 7, [8, 100, 100, 5, 150, 160, 10]),
    "dataset_2": (6480, 45, [144, 144]),
    "dataset_3": (40500, 45, [900, 900]),
}


@pytest.mark.parametrize("name", sorted(CHALLENGE))
def test_challenge_geometries_have_the_published_voxels(name: str) -> None:
    geometry = load_geometry(name)
    n_voxels, n_layers, first = CHALLENGE[name]
    assert geometry.n_voxels == n_voxels
    assert geometry.n_layers == n_layers
    assert [layer.n_voxels for layer in geometry.active_layers][: len(first)] == first


@pytest.mark.parametrize("name", geometry_names())
def test_a_round_trip_keeps_everything(name: str, tmp_path: Path) -> None:
    geometry = load_geometry(name)
    path = tmp_path / f"binning_{name}.{geometry.form}"
    path.write_text(geometry.to_text(), encoding="utf-8")
    assert load_geometry(path) == geometry
    assert stored_geometry(write_geometry(geometry, tmp_path).parent, name=name) == geometry
    assert geometry_of(geometry_attributes(geometry), name="other") == geometry


def test_absent_layers_are_kept_but_have_no_voxels() -> None:
    photons = load_geometry("dataset_1_photons")
    assert len(photons.layers) == 24
    assert [layer.id for layer in photons.active_layers] == [0, 1, 2, 3, 12]
    assert photons.transverse_layers == (1, 2)


def test_r_is_fastest_then_alpha_then_layer() -> None:
    geometry = load_geometry("dataset_2")
    index = np.arange(6480).reshape(45, 16, 9)
    assert geometry.layer_of_voxel[index[7, 3, 2]] == 7
    assert geometry.r_of_voxel[index[7, 3, 2]] == pytest.approx(2.5 * 4.65)
    edges = np.linspace(-np.pi, np.pi, 17)
    assert geometry.alpha_of_voxel[index[7, 3, 2]] == pytest.approx((edges[3] + edges[4]) / 2)


def test_phi_neighbours_are_periodic() -> None:
    geometry = load_geometry("dataset_2")
    index = np.arange(6480).reshape(45, 16, 9)
    assert geometry.phi_neighbours[index[5, 0, 4]].tolist() == [index[5, 15, 4], index[5, 1, 4]]
    photons = load_geometry("dataset_1_photons")
    assert photons.phi_neighbours[3].tolist() == [3, 3]  # layer 0 has one alpha bin


def test_rotation_moves_the_direction_and_changes_no_sum() -> None:
    geometry = load_geometry("dataset_1_photons")
    shower = np.random.default_rng(0).random(geometry.n_voxels)
    turned = shower[geometry.rotation(1)]
    for place in geometry.layer_slices:
        assert turned[place].sum() == pytest.approx(shower[place].sum())
    layer = geometry.layer_slices[1]
    weight = shower[layer], turned[layer]
    before, after = (np.sum(w * np.exp(1j * geometry.alpha_of_voxel[layer])) for w in weight)
    assert np.angle(after / before) == pytest.approx(2 * np.pi / 10)


def test_neighbours_are_beside_each_other_in_r_and_alpha() -> None:
    geometry = load_geometry("dataset_2")
    index = np.arange(6480).reshape(45, 16, 9)
    assert len(geometry.neighbours) == 45 * (16 * 9 + 16 * 8)
    beside = {tuple(pair) for pair in geometry.neighbours.tolist()}
    assert {(index[5, 0, 4], index[5, 15, 4]), (index[5, 3, 4], index[5, 3, 5])} <= beside
    photons = load_geometry("dataset_1_photons")  # layer 0 has rings, not cut in alpha
    assert [pair for pair in photons.neighbours.tolist() if pair[1] < 8] == [[i, i + 1] for i in range(7)]


@pytest.mark.parametrize("name", geometry_names())
def test_areas_add_up_to_the_layer(name: str) -> None:
    geometry = load_geometry(name)
    if isinstance(geometry, CylindricalGeometry):
        areas = [np.pi * (layer.r_edges[-1] ** 2 - layer.r_edges[0] ** 2) for layer in geometry.active_layers]
    else:
        areas = [{"calogan": 480.0, "focal_h_prototype_2": 195.0}[name] ** 2] * geometry.n_layers
    assert [geometry.area_of_voxel[place].sum() for place in geometry.layer_slices] == pytest.approx(areas)


@pytest.mark.parametrize("name", geometry_names())
def test_symmetries_are_a_group_that_keeps_the_geometry(name: str) -> None:
    geometry = load_geometry(name)
    orders = geometry.symmetries[:: max(1, len(geometry.symmetries) // 8)]
    assert (orders[0] == np.arange(geometry.n_voxels)).all()
    found = {order.tobytes() for order in geometry.symmetries}
    assert len(found) == len(geometry.symmetries)
    assert orders[-1][orders[1]].tobytes() in found
    for order in orders:
        assert (geometry.layer_of_voxel[order] == geometry.layer_of_voxel).all()
        for property_ in (geometry.area_of_voxel, geometry.r_of_voxel):
            np.testing.assert_allclose(property_[order], property_, rtol=1e-6, atol=1e-12)
    turned = geometry.asymmetries[geometry.symmetries].mean(axis=0)  # what all of the group leaves is nothing
    for layer in geometry.transverse_layers:
        np.testing.assert_allclose(turned[geometry.layer_slices[layer]], 0, atol=1e-9)


def test_mirror_twice_is_the_identity() -> None:
    geometry = load_geometry("dataset_1_pions")
    mirror = geometry.rotation(0, mirror=True)
    assert (mirror[mirror] == np.arange(geometry.n_voxels)).all()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("<Bins>", "not an XML file"),
        ("<Bins/>", "expected one <Bin>"),
        ('<Bins><Bin><Layer id="0" r_edges="0,nan" n_bin_alpha="1"/></Bin></Bins>', "finite numbers in mm"),
        ('<Bins><Bin><Layer id="0" r_edges="nan" n_bin_alpha="1"/></Bin></Bins>', "finite numbers in mm"),
        ('<Bins><Bin><Layer id="0" r_edges="0,inf" n_bin_alpha="1"/></Bin></Bins>', "finite numbers in mm"),
        ('<Bins><Bin><Layer id="0" r_edges="0,1e300" n_bin_alpha="1"/></Bin></Bins>', "finite numbers in mm"),
        ('<Bins><Bin><Layer id="0" r_edges="0,1" n_bin_alpha="1000000000"/></Bin></Bins>', "1000000000 voxels"),
        ('<Bins><Bin><Layer id="0" r_edges="0,1" n_bin_alpha="1e3"/></Bin></Bins>', "number cannot be read"),
        ('<Bins><Bin pid="e-"><Layer id="0" r_edges="0,1" n_bin_alpha="1"/></Bin></Bins>', "number cannot be read"),
        ('<Bins><Bin><Layer id="0" n_bin_alpha="1"/></Bin></Bins>', "no attribute 'r_edges'"),
        ('<Bins><Bin><Layer id="0" r_edges="0,a" n_bin_alpha="1"/></Bin></Bins>', "number cannot be read"),
        ('<Bins><Bin><Layer id="4" r_edges="0,3,2" n_bin_alpha="1"/></Bin></Bins>', "layer 4: r_edges must rise"),
        ('<Bins><Bin><Layer id="0" r_edges="0,1" n_bin_alpha="0"/></Bin></Bins>', "must be positive"),
        ('<Bins><Bin><Layer id="0" r_edges="0" n_bin_alpha="1"/></Bin></Bins>', "has no voxels"),
    ],
)
def test_bad_binning_is_named(text: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        CylindricalGeometry.from_text(text, name="mine")


ONE = '<Layer id="0" r_edges="0,1,2" n_bin_alpha="3"/>'
TWO = f'<Bins><Bin pid="11" name="electron">{ONE}</Bin><Bin pid="211" name="pion">{ONE}{ONE}</Bin></Bins>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_a_binning_file_is_read_in_its_namespace_and_encoding(encoding: str, tmp_path: Path) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><!-- Université --><b:Bins xmlns:b="urn:x">'
    inner = ONE.replace("<Layer", "<b:Layer")
    path = tmp_path / "mine.xml"
    path.write_bytes(f'{text}<b:Bin pid="11" name="électron">{inner}</b:Bin></b:Bins>'.encode(encoding))
    geometry = load_geometry(path)
    assert (geometry.n_voxels, geometry.particle) == (6, "électron")
    assert CylindricalGeometry.from_text(geometry.to_text(), name="mine") == geometry


def test_elements_of_a_binning_file_may_have_other_names() -> None:
    text = (
        '<Detector><Particle pid="22" name="photon"><Ring id="0" r_edges="0,1,2" n_bin_alpha="3"/><Comment/></Particle>'
        "<Comment/></Detector>"
    )
    geometry = CylindricalGeometry.from_text(text, name="mesh")
    assert (geometry.n_voxels, geometry.particle, geometry.pid) == (6, "photon", 22)


@pytest.mark.parametrize(
    ("choice", "n_voxels"), [({"particle": "pion"}, 12), ({"particle": "11"}, 6), ({"n_voxels": 12}, 12)]
)
def test_one_of_several_particles_is_chosen(choice: dict[str, Any], n_voxels: int, tmp_path: Path) -> None:
    path = tmp_path / "mine.xml"
    path.write_text(TWO)
    assert load_geometry(path, **choice).n_voxels == n_voxels


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({}, r"describes electron \(pid 11\), pion \(pid 211\); say which with --particle"),
        ({"n_voxels": 7}, "say which with --particle"),
        ({"particle": "kaon"}, r"0 of its particles are 'kaon'; there are electron"),
    ],
)
def test_several_particles_are_named(choice: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.xml"
    path.write_text(TWO)
    with pytest.raises(InputError, match=rf"mine\.xml: .*{message}"):
        load_geometry(path, **choice)


def test_unknown_geometry_offers_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'dataset_2'"):
        load_geometry("datset_2")


def test_single_layer_and_single_bin_work() -> None:
    geometry = CylindricalGeometry("dot", (Layer(0, (0.0, 1.0), 1),))
    assert geometry.n_voxels == 1
    assert geometry.n_rotations == 1
    assert geometry.eta_of_voxel.tolist() == [0.0]
