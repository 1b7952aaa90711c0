"""Simulate showers with Geant4, one process for each core, and go on where a run was stopped."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import Field

from caloforge.child import Child, how_it_ended
from caloforge.config import Config
from caloforge.errors import InputError
from caloforge.files import read_json, write_json
from caloforge.outputs import check_claim, check_file, is_standard_output, own_folder
from caloforge.preprocessing.simulation.beam import Beam
from caloforge.preprocessing.simulation.detector import Detector
from caloforge.preprocessing.simulation.geant4 import check_binding, data_environment, physics_of
from caloforge.preprocessing.simulation.parts import (
    DESCRIPTION,
    EXTRA,
    Part,
    missing,
    parts_of,
    remove,
    wait_for_workers,
)
from caloforge.preprocessing.simulation.worker import STOPPED, WRONG_INPUT, Work
from caloforge.progress import Progress
from caloforge.provenance import provenance
from caloforge.result_kinds import SIMULATION
from caloforge.showers import write_showers
from caloforge.steps import step
from caloforge.temporary import scratch_folder

logger = logging.getLogger(__name__)

FOLDER = ".parts"
"""Ends the name of the folder beside the output that holds the finished showers while a simulation goes on."""

_LOOK_SECONDS = 0.5

_BLOCK = 16
"""Showers in a row that one process gets: few, so that all processes end at about the same time."""


class Simulation(Config):
    """What is simulated.

    Attributes:
        detector: the calorimeter.
        beam: what is shot at it.
        physics: physics list: ``em`` for G4EmStandardPhysics alone, or one of Geant4's, e.g. ``FTFP_BERT``; empty: the
            one of these two that the particles need.
        seed: same seed, same showers, whatever the number of processes.
        n: number of showers.
    """

    detector: Detector
    beam: Beam
    physics: str = Field(default="", pattern=r"^[A-Za-z0-9_]*$")
    seed: int = Field(default=0, ge=0, lt=2**53)
    n: int = Field(ge=1, le=10**9)

    @property
    def list(self) -> str:
        """Name of the physics list."""
        return self.physics or physics_of(self.beam.codes)

    def check(self) -> None:
        """Refuse what cannot be simulated.

        Raises:
            InputError: at some angle a shower would not lie in the detector.
        """
        if self.beam.theta is not None:
            self.detector.check_theta(*self.beam.theta)


_EXCEPTION = re.compile(r"\*\*\* G4Exception : [^\n]*\n +issued by : [^\n]*\n(.*?)\n\s*\*\*\* Fatal", re.DOTALL)
"""What Geant4 says when it gives up."""

_OF_DATA = re.compile(r"\bG4[A-Z]*DATA\b")
"""Environment variables that name its data sets."""


class SimulationFailed(RuntimeError):
    """Geant4 failed."""


def simulate(
    simulation: Simulation, output: Path, *, processes: int = 1, name: str = "", parts: Path | None = None
) -> dict[str, float]:
    """Simulate showers and write them as CaloChallenge HDF5.

    A run that was stopped, by whatever, goes on when it is called again: the showers that were finished are in a folder
    beside the output, which goes when the output is there.

    Args:
        simulation: what to simulate.
        output: the file to write.
        processes: processes that work side by side.
        name: of the detector, noted in the file.
        parts: folder for the finished showers while others are not; None: beside the output.

    Returns:
        Number of showers, CPU seconds of all and for each GeV.

    Raises:
        InputError: Geant4 or one of its data sets is missing, what was finished before is damaged, the detector cannot be built or does not hold the showers,
            the output cannot be written, or an unfinished simulation of something else is in its place.
        SimulationFailed: Geant4 died.
        SystemExit: this process was told to end; what was finished is kept.
        NoSpace: the disk is full.
    """
    check_file(output, inputs=simulation.detector.files)
    simulation.check()
    binding = check_binding()
    if parts is None and (is_standard_output(output) or (output.exists() and not output.is_file())):
        raise InputError(f"{output}: is no file, beside which a simulation could keep what is finished; name one")
    folder = parts or output.with_name(output.name + FOLDER)
    check_claim(folder, SIMULATION)
    with step("simulate"), scratch_folder() as nothing:
        environment = data_environment(simulation.list, nothing)
        with own_folder(folder, SIMULATION) as folder:
            try:
                wait_for_workers(folder)
                _begin_or_go_on(folder, simulation)
                todo = list(missing(parts_of(folder), simulation.n))
                if (left := sum(map(len, todo))) < simulation.n:
                    done = simulation.n - left
                    logger.info("%s: going on: %d of %d showers are done", output.name, done, simulation.n)
                if todo:
                    _run(simulation, folder, todo, processes, environment)
                figures = _join(simulation, folder, output, binding=binding, name=name)
            except BaseException:
                if not parts_of(folder):  # nothing to go on from
                    remove(folder)
                raise
            remove(folder)
    return figures


def _begin_or_go_on(folder: Path, simulation: Simulation) -> None:
    """Note what is simulated, or make sure that it is the same as before; the number of showers may be another."""
    description = folder / DESCRIPTION
    wanted = json.loads(simulation.model_dump_json(exclude={"n"}))
    if not description.exists() or not parts_of(folder):
        write_json(description, wanted)
    elif (found := read_json(description)) != wanted:
        different = ", ".join(sorted(_differences(found, wanted)))
        raise InputError(
            f"{folder}: holds an unfinished simulation of something else ({different} differ); finish that with the command "
            "that began it, remove the folder, or choose another output"
        )


def _differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {*one, *other}:
            yield from _differences(one.get(key), other.get(key), f"{path}.{key}" if path else key)
    elif one != other:
        yield path


def _run(
    simulation: Simulation, folder: Path, todo: Sequence[range], processes: int, environment: dict[str, str]
) -> None:
    blocks = [(a, min(a + _BLOCK, one.stop)) for one in todo for a in range(one.start, one.stop, _BLOCK)]
    progress = Progress("simulating", simulation.n, unit="shower", initial=simulation.n - sum(map(len, todo)))
    with ExitStack() as stack:
        children = []
        for number in range(min(processes, len(blocks))):
            work = Work(
                detector=simulation.detector, beam=simulation.beam, physics=simulation.list, seed=simulation.seed,
                runs=tuple(_joined(blocks[number::processes])), folder=folder.absolute(),
            )  # fmt: skip
            command = [sys.executable, "-P", "-m", "caloforge.preprocessing.simulation.worker"]
            child = Child(
                command, what="Geant4", log=folder / f"geant4-{number}.log", given=work.model_dump_json(),
                environment={**environment, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            children.append(
                stack.enter_context(child)
            )  # one that runs at the end is told to stop, and writes what it has
        running = list(children)
        while running:
            time.sleep(_LOOK_SECONDS)
            progress.update(sum(part.count for part in parts_of(folder)))
            for child in [one for one in running if one.poll() is not None]:
                running.remove(child)
                _check_end(child)


def _check_end(child: Child) -> None:
    code = child.poll() or 0
    if code == 0:
        return
    if code == WRONG_INPUT:
        raise InputError(child.lines()[-1])
    if code == STOPPED:
        sys.exit(code)
    if (said := _EXCEPTION.search("\n".join(child.lines()))) and _OF_DATA.search(said[1]):
        raise InputError(f"Geant4 cannot read its data: {' '.join(said[1].split())}")
    raise SimulationFailed(f"Geant4 {how_it_ended(code)}; it ended with:\n{child.tail()}")


def _joined(blocks: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield blocks, those as one that follow each other."""
    start, stop = blocks[0]
    for first, last in blocks[1:]:
        if first == stop:
            stop = last
        else:
            yield start, stop
            start, stop = first, last
    yield start, stop


def _join(simulation: Simulation, folder: Path, output: Path, *, binding: str, name: str) -> dict[str, float]:
    """Write the parts as one file, in the order of the showers."""
    parts = parts_of(folder)
    detector, beam = simulation.detector, simulation.beam
    version = _one_version(parts)
    cpu = energy = 0.0
    codes = beam.codes
    mesh = detector.readout.showers_geometry(particle=beam.particles[0], pid=codes[0] if len(codes) == 1 else 0)
    attributes = {
        "source": f"Geant4 {version} (geant4-pybind {binding}), {simulation.list}, cut {detector.cut_mm:g} mm",
        "particle": ", ".join(beam.particles),
        "detector": name,
        "energy_threshold": detector.threshold_mev * detector.scale,
        "energy_scale": detector.scale,
        "simulation": simulation.model_dump_json(),
    }
    origin = {
        **provenance(seed=simulation.seed),
        "geant4": version,
        "geant4_pybind": binding,
        "physics": simulation.list,
    }
    with write_showers(output, mesh, attributes=attributes, provenance=origin) as writer:
        left = simulation.n
        for part in parts:
            conditions, voxels, extra = part.read(mesh.n_voxels)
            take = slice(0, left)
            writer.append(
                conditions.take(take), voxels[take], beside={f"extra/{key}": extra[key][take] for key in EXTRA}
            )
            cpu += float(extra["cpu_seconds"][take].sum())
            energy += float(conditions.incident_energy[take].sum()) / 1e3
            left -= len(voxels[take])
            if left <= 0:
                break
    return {"showers": simulation.n, "cpu_seconds": cpu, "cpu_seconds_per_gev": cpu / energy}


def _one_version(parts: Sequence[Part]) -> str:
    versions = sorted({part.geant4 for part in parts})
    if len(versions) > 1:
        raise InputError(f"the showers are of Geant4 {' and '.join(versions)}; begin anew with one of them")
    return versions[0]
