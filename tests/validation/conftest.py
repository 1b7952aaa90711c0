import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from caloforge.geometry import CylindricalGeometry, Geometry, Layer
from caloforge.showers import Conditions, Showers, open_showers, write_showers
from caloforge.source import Source
from caloforge.validation.judgement import SCHEMA_FILE, Judgement
from caloforge.validation.validate import validate


@pytest.fixture(scope="session", autouse=True)
def every_metrics_json_keeps_to_the_schema() -> Iterator[None]:
    """Check each file that a test writes against the JSON Schema that the package ships."""
    write, checker = Judgement.write, Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))

    def checked(self: Judgement, path: Path) -> None:
        write(self, path)
        checker.validate(json.loads(path.read_text(encoding="utf-8")))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Judgement, "write", checked)
        yield


R_EDGES = (0.0, 5.0, 10.0, 20.0)
THRESHOLD = 0.1


@pytest.fixture(scope="session")
def mesh() -> Geometry:
    """Six equal layers of 4 alpha bins and 3 rings: 72 voxels."""
    return CylindricalGeometry("toy", tuple(Layer(i, R_EDGES, 4) for i in range(6)))


@pytest.fixture(scope="session")
def irregular_mesh() -> Geometry:
    """Layers of unlike rings, one of them absent, one with a single voxel."""
    layers = (
        Layer(0, (0.0, 5.0, 10.0), 1),
        Layer(1, (0.0, 2.0, 4.0, 20.0), 5),
        Layer(2, (0.0,), 1),
        Layer(3, (0.0, 30.0), 1),
        Layer(4, (0.0, 10.0, 20.0), 4),
    )
    return CylindricalGeometry("unlike", layers)


@pytest.fixture(scope="session")
def toy_showers() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Return a function that draws showers: (N,) incident energies and (N, V) voxels, MeV."""

    def draw(geometry: Geometry, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        energy = 1000 * 10 ** rng.uniform(0, 1, n)
        layer = geometry.layer_of_voxel
        depth = (geometry.n_layers - 1) * rng.normal(0.4, 0.08, (n, 1))
        mean = np.exp(-(((layer - depth) / 1.5) ** 2) - geometry.r_of_voxel / rng.normal(8, 0.7, (n, 1)))
        voxels = mean * rng.gamma(4, 0.25, (n, geometry.n_voxels)) * (rng.random((n, geometry.n_voxels)) < 0.8)
        voxels *= (energy * rng.normal(0.9, 0.03, n) / np.maximum(voxels.sum(axis=1), 1e-9))[:, None]
        voxels[voxels < THRESHOLD] = 0
        return energy, voxels.astype(np.float32)

    return draw


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """The published definitions, plain and slow."""
    spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save(path: Path, geometry: Geometry, energy: np.ndarray, voxels: np.ndarray, **attributes: float) -> Showers:
    """Write showers to a file and open it."""
    attributes = {"energy_threshold": THRESHOLD, **attributes}
    with write_showers(path, geometry, attributes=attributes, provenance={}) as file:
        file.append(Conditions(energy), voxels)
    return open_showers(path)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Showers]:
    """Return a function that writes showers to a file of some name and opens it."""
    return lambda name, *content, **attributes: save(tmp_path / f"{name}.hdf5", *content, **attributes)


@pytest.fixture(scope="module")
def write_module(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Showers]:
    """Like ``write``, for the fixtures of a module."""
    folder = tmp_path_factory.mktemp("written")
    return lambda name, *content, **attributes: save(folder / f"{name}.hdf5", *content, **attributes)


BAD = "</script><b>$bad"
"""Name of a generator that HTML and mathtext could take for code."""


SOURCE = Source("s3://bucket/<geant4>.hdf5", 12_300_000, "", "2026-11-26T03:40:00+00:00")


@pytest.fixture(scope="session")
def judged(
    mesh: Geometry, toy_showers: Callable[..., tuple[np.ndarray, np.ndarray]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Judgement, Path]:
    """The metrics and the folder of a good and a bad generator against a second sample."""
    folder = tmp_path_factory.mktemp("judged")
    reference = save(folder / "reference.hdf5", mesh, *toy_showers(mesh, 400, 1))
    floor = save(folder / "floor.hdf5", mesh, *toy_showers(mesh, 350, 2))
    energy, voxels = toy_showers(mesh, 300, 3)
    good = save(folder / "good.hdf5", mesh, energy, voxels)
    voxels[:, mesh.layer_slices[1]] *= 4
    bad = save(folder / "bad.hdf5", mesh, energy, voxels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("caloforge.validation.plots.style.DPI", 50)  # seconds saved
        output, timings = folder / "out", {"good": 1.5}
        metrics = validate(
            reference, {"good": good, BAD: bad}, output, floor=floor, timings=timings, seed=3, source=SOURCE
        )
    return metrics, output
