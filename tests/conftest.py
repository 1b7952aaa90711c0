"""Real showers in small numbers, and a generator trained on them for a moment.

What takes seconds to import is imported where it is used: the process that hands tests out to workers reads this too.
"""

from __future__ import annotations

import gc
import inspect
import signal
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from promises import kept

from caloforge.errors import InputError
from caloforge.memory import collect_garbage_seldom
from caloforge.showers import Showers, open_showers, write_showers

QUICK = {
    "training": {"steps": 8, "batch_size": 32},
    "energies": {"steps": 8, "batch_size": 32},
    "model": {"network": {"width": 16, "blocks": 1}},
}


def pytest_configure() -> None:
    """Let the processes that tests start be interrupted: a shell has its background jobs ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # kfp looks at the whole stack at each setting of a task, and at its bottom are two frames of xdist's that come from
    # no file: without this entry each look goes through all modules, and compiling takes ten times as long.
    inspect.modulesbyfile["<string>"] = "__main__"  # type: ignore[attr-defined]
    # With as many full collections as Python makes by itself, the suite spends a fifth of its time on them.
    collect_garbage_seldom()


def pytest_collection_finish() -> None:
    """Leave the tests themselves, and what they import, out of all later collections: it stays anyway."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say of each promise to a cluster's users how many tests kept it."""
    found = [
        (outcome, report) for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])
    ]
    if lines := list(kept(found)):
        terminalreporter.section("on a cluster")
        for line in lines:
            terminalreporter.write_line(line)


def copy_showers(showers: Showers, output: Path) -> Path:
    attributes = {key: showers.attributes[key] for key in ("energy_threshold", "source", "particle")}
    with write_showers(output, showers.geometry, attributes=attributes, provenance={}) as writer:
        writer.append(showers.conditions, showers.read())
    return output


@pytest.fixture(scope="session")
def demo_showers() -> Path:
    """The 8000 showers that come with the package."""
    return Path(str(files("caloforge") / "data" / "demo_showers.hdf5"))


@pytest.fixture(scope="session")
def small_showers(demo_showers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 of them in a file of their own."""
    folder = tmp_path_factory.mktemp("showers")
    return copy_showers(open_showers(demo_showers).select(range(300)), folder / "small.hdf5")


@pytest.fixture(scope="session")
def small_prepared(small_showers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data of ``small_showers``."""
    from caloforge.preprocessing.prepare import prepare

    folder = tmp_path_factory.mktemp("prepared") / "prepared"
    prepare(open_showers(small_showers), folder, seed=1)
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(small_showers: Path, small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE bundle trained for eight steps."""
    from caloforge.models.configuration import TrainingRequest
    from caloforge.models.training.train import train

    folder = tmp_path_factory.mktemp("bundle") / "vae"
    train(
        TrainingRequest(
            showers=small_showers, prepared=small_prepared, output=folder, family="vae", overrides=QUICK, seed=1
        )
    )
    return folder


@pytest.fixture(scope="session")
def geant4(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Version of the binding; tests that need it are skipped where it or G4LEDATA is missing."""
    from caloforge.preprocessing.simulation.geant4 import check_binding, data_environment

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
