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


@pytest.mark.parametrize("name", detector_names())
def test_a_detector_of_the_package_is_read_out_in_a_geometry_of_the_package(name: str) -> None:
    detector = load_detector(name)
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
        (changed(barrel=None), r"d.yaml: expected one of barrel, planar.*got none"),
        (changed(planar={"half_width_mm": 1, **SIW["barrel"]}), "unknown key 'planar"),
        (changed(treshold_mev=1), "unknown key 'treshold_mev'; did you mean 'threshold_mev'"),
        (changed(barrel={**SIW["barrel"], "perods": 3}), r"unknown key 'barrel.perods'; did you mean 'barrel.period"),
        (changed(barrel={**SIW["barrel"], "period": [{"material": "G4_W", "mm": 1}]}), "no slab is sensitive"),
        (changed(barrel={**SIW["barrel"], "period": [{"material": "W", "mm": 1}]}), r"period.0.material"),
        (changed(barrel={**SIW["barrel"], "half_length_mm": 30}), "the shower would reach z = 41.85 mm"),
        (changed(mesh={**SIW["mesh"], "layers": 46}), "mesh: is 156.4 mm deep, and the calorimeter 153 mm"),
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
    with pytest.raises(InputError, match=r"unknown detector.*'siv'; did you mean 'siw'.*fesci, scipb, siw"):
        load_detector("siv")
    with pytest.raises(InputError, match=r"no.yaml: cannot be read"):
        load_detector("no.yaml")
