from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.geometry import load_geometry
from caloforge.preprocessing.simulation.detector import Detector, detector_names, load_detector
from caloforge.preprocessing.simulation.readout import Mesh, direction, shower_axes


@pytest.mark.parametrize("name", sorted({*detector_names()} - {"focal_h"}))
def test_a_detector_of_the_package_is_read_out_in_a_geometry_of_the_package(name: str) -> None:
    detector = load_detector(name)
    assert detector.mesh is not None
    assert detector.mesh.showers_geometry().layers == load_geometry(detector.mesh.geometry).layers
    assert detector.mesh.depth_mm == pytest.approx(detector.volume.depth_mm)


def test_the_silicon_tungsten_barrel_is_that_of_par04() -> None:
    siw = load_detector("siw")
    assert siw.barrel is not None
    assert siw.barrel.periods * sum(slab.mm for slab in siw.barrel.period) == pytest.approx(153)
    assert siw.scale * siw.threshold_mev == pytest.approx(15.15e-3, rel=2e-4)


def test_the_voxel_of_a_voxels_middle_is_that_voxel() -> None:
    mesh = Mesh(geometry="m", layers=3, layer_mm=5, n_alpha=8, rings=4, ring_mm=2)
    geometry = mesh.showers_geometry()
    axes, entry = shower_axes(0.7, 2.0), np.array([100.0, -3.0, 50.0])
    local = np.stack(
        [
            geometry.r_of_voxel * np.cos(geometry.alpha_of_voxel),
            geometry.r_of_voxel * np.sin(geometry.alpha_of_voxel),
            (geometry.layer_of_voxel + 0.5) * mesh.layer_mm,
        ],
        axis=1,
    )
    assert np.array_equal(mesh.voxels(entry + local @ axes, entry, axes), np.arange(geometry.n_voxels))


def test_what_is_outside_of_the_mesh_has_no_voxel() -> None:
    mesh = Mesh(geometry="m", layers=3, layer_mm=5, n_alpha=8, rings=4, ring_mm=2)
    outside = np.array([[0, 0, -0.1], [0, 0, 15.1], [8.1, 0, 1], [0, -8.1, 1], [6, 6, 1]])
    assert np.array_equal(mesh.voxels(outside, np.zeros(3), np.eye(3)), [-1] * 5)


@pytest.mark.parametrize(("theta", "phi"), [(math.pi / 2, 0.0), (0.9, -2.0), (2.2, 1.0), (0.0, 0.5)])
def test_the_frame_of_a_shower(theta: float, phi: float) -> None:
    axes = shower_axes(theta, phi)
    assert np.allclose(axes @ axes.T, np.eye(3))
    assert np.linalg.det(axes) == pytest.approx(1)
    assert np.allclose(axes[2], direction(theta, phi))
    if theta:
        assert axes[0] @ [0, 0, 1] > 0, "x points towards larger z"
    assert axes[1] @ [0, 0, 1] == pytest.approx(0), "y lies across the plane of particle and beam"


SIW: dict[str, Any] = load_detector("siw").model_dump(mode="json", exclude_none=True)


def changed(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**SIW, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (changed(barrel=None), r"d.yaml: expected one of barrel, planar, fibres, got none"),
        (changed(planar={"half_width_mm": 1, **SIW["barrel"]}), "unknown key 'planar"),
        (changed(cells={"geometry": "focal_h_prototype_2"}), "expected one of mesh, cells, got mesh and cells"),
        (changed(mesh=None, cells={"geometry": "focal_h_prototype_2"}), "cells: are for what has a front"),
        (changed(treshold_mev=1), "unknown key 'treshold_mev'; did you mean 'threshold_mev'"),
        (changed(barrel={**SIW["barrel"], "perods": 3}), r"unknown key 'barrel.perods'; did you mean 'barrel.period"),
        (changed(barrel={**SIW["barrel"], "period": [{"material": "G4_W", "mm": 1}]}), "no slab is sensitive"),
        (changed(barrel={**SIW["barrel"], "period": [{"material": "W", "mm": 1}]}), r"period.0.material"),
        (changed(barrel={**SIW["barrel"], "half_length_mm": 30}), "the shower would reach z = 41.85 mm"),
        (changed(mesh={**SIW["mesh"], "layers": 46}), "mesh: is 156.4 mm deep, and the calorimeter 153 mm"),
        (
            changed(mesh={**SIW["mesh"], "layers": 10_000, "n_alpha": 10_000}),
            r"d.yaml: mesh: \d+00000000 voxels \(layers x n_alpha x rings\); a shower has 10000000 at most",
        ),
    ],
)
def test_wrong_descriptions(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Detector.parse(values, where="d.yaml")


def test_angles_that_a_barrel_cannot_hold() -> None:
    siw = load_detector("siw")
    siw.check_theta(0.873, 2.269)  # those of a sample that was simulated so
    with pytest.raises(InputError, match=r"theta 0\.2: the shower would reach z = 4\d\d\d mm.*from 0.7\d* to 2.3\d*"):
        siw.check_theta(0.2, 1.57)
    with pytest.raises(InputError, match="along the beam"):
        siw.check_theta(1.0, math.pi)


def test_the_last_angle_that_is_named_holds_a_shower() -> None:
    siw = load_detector("siw")
    with pytest.raises(InputError) as caught:
        siw.check_theta(0.1, 3.0)
    low, high = (float(word) for word in str(caught.value).split(" rad it")[0].split(" from ")[1].split(" to "))
    siw.check_theta(low, high)
    with pytest.raises(InputError):
        siw.check_theta(low - 2e-4, high)


def test_a_plane_is_hit_from_the_front() -> None:
    scipb = load_detector("scipb")
    scipb.check_theta(0.0, 0.8)
    with pytest.raises(InputError, match="does not come from the front"):
        scipb.check_theta(0.0, 2.0)


def test_a_file_describes_a_detector(thin: Path) -> None:
    assert load_detector(thin).volume.depth_mm == 50


def test_an_unknown_detector() -> None:
    with pytest.raises(InputError, match=r"unknown detector.*'siv'; did you mean 'siw'.*fesci, focal_h, scipb, siw"):
        load_detector("siv")
    with pytest.raises(InputError, match=r"no.yaml: cannot be read"):
        load_detector("no.yaml")


FOCAL: dict[str, Any] = load_detector("focal_h").model_dump(mode="json", exclude_none=True)


def test_a_block_of_fibres_is_read_out_in_its_cells() -> None:
    focal = load_detector("focal_h")
    assert focal.fibres is not None
    assert focal.fibres.columns == 78
    cells = focal.readout.showers_geometry()
    middles = np.stack([cells.eta_of_voxel, cells.phi_of_voxel, np.full(249, 500.0)], axis=1)
    shifted = middles + np.array([0.4 * cells.width_of_voxel.min(), 0.0, 0.0])
    for points in (middles, shifted):
        assert np.array_equal(focal.readout.voxels(points, np.zeros(3), np.eye(3)), np.arange(249))
    assert focal.readout.voxels(np.array([[98.0, 0, 1], [0, -98.0, 1]]), np.zeros(3), np.eye(3)).tolist() == [-1, -1]


def test_deposits_go_to_the_middle_of_their_fibre() -> None:
    focal = load_detector("focal_h")
    assert focal.fibres is not None
    points = np.array([[0.1, 2.4, 7.0], [-0.1, -2.6, 8.0], [97.4, -97.4, 1.0]])
    assert np.allclose(focal.fibres.read_out(points), [[1.25, 1.25, 7], [-1.25, -3.75, 8], [96.25, -96.25, 1]])
    enter = [focal.fibres.entry((0, 0, 1), (a, b)) for a, b in ((0, 0), (0.5, 1))]
    assert enter == [(-1.25, -1.25, 0), (0, 1.25, 0)]


def test_layers_of_cells(tmp_path: Path) -> None:
    table = tmp_path / "pads.csv"
    table.write_text("channel,layer,x,y,size\na,0,-5,0,10\nb,0,5,0,10\nc,1,0,0,20\n")
    planar = {**load_detector("scipb").model_dump(mode="json", exclude_none=True), "mesh": None}
    pads = Detector.parse({**planar, "cells": {"geometry": str(table), "layer_mm": 5.6}}, where="d")
    points = np.array([[-1.0, 0, 1], [1, 0, 1], [1, 0, 6], [1, 0, 12], [1, 6, 1]])
    assert pads.readout.voxels(points, np.zeros(3), np.eye(3)).tolist() == [0, 1, 2, -1, -1]
    with pytest.raises(InputError, match="has 2 layers; say how long each is with layer_mm"):
        Detector.parse({**planar, "cells": {"geometry": str(table)}}, where="d")


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("cells", {"geometry": "dataset_2"}, "geometry dataset_2 has no cells"),
        ("cells", {"geometry": "focal"}, "unknown geometry"),
        (
            "fibres",
            {"half_width_mm": 90},
            "the shower would reach 97.5 mm to the side, and the calorimeter ends at 90 mm",
        ),
        ("fibres", {"half_width_mm": 1}, "half_width_mm: 0 fibres side by side"),
        ("fibres", {"rods": [{"material": "G4_Cu", "radius_mm": 2}]}, "rods: expected radii that fall"),
        ("fibres", {"rods": [{"material": "G4_Cu", "radius_mm": 1}]}, "rods: none is sensitive"),
    ],
)
def test_wrong_blocks(part: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Detector.parse({**FOCAL, part: {**FOCAL[part], **values}}, where="d.yaml")


def test_angles_at_which_a_shower_leaves_a_block_at_its_side() -> None:
    focal = load_detector("focal_h")
    focal.check_theta(0.0, 0.08)
    with pytest.raises(InputError, match=r"to the side.*from 0.0000 to 0.08\d* rad"):
        focal.check_theta(0.0, 0.1)
