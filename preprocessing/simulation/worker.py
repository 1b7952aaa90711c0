"""The process that runs Geant4: ``python -m caloforge.preprocessing.simulation.worker``, its work as JSON on standard input.

It writes the showers that it finishes into a folder, part by part, and ends with 0 when all are done, with 143 when it
was told to end and has written what it had, and with 2 where the last line that it wrote says what is wrong.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from caloforge.conditions import Conditions
from caloforge.config import Config
from caloforge.particles import NAMES
from caloforge.preprocessing.simulation.beam import Beam, Shot
from caloforge.preprocessing.simulation.detector import Detector
from caloforge.preprocessing.simulation.parts import EXTRA, at_work, write_part
from caloforge.preprocessing.simulation.readout import direction, shower_axes
from caloforge.runner import end_with_runner

logger = logging.getLogger(__name__)

WRONG_INPUT = 2
STOPPED = 128 + signal.SIGTERM

_PART_SECONDS = 5.0
_MOST_IN_A_PART = 200


class Work(Config):
    """What a worker does.

    Attributes:
        detector: the calorimeter.
        beam: what is shot at it.
        physics: name of the physics list.
        seed: of the sample.
        runs: numbers of the showers, from (included) to (excluded).
        folder: for the parts.
    """

    detector: Detector
    beam: Beam
    physics: str
    seed: int
    runs: tuple[tuple[int, int], ...]
    folder: Path


class Worker:
    """Simulate showers one after the other, and write them down every few seconds."""

    def __init__(self, work: Work) -> None:
        self.told_to_end = False
        self._work = work
        self._numbers = [number for first, last in work.runs for number in range(first, last)]
        self._next = 0
        self._shot: Shot | None = None
        self._rows: list[tuple[Shot, NDArray[np.float32], tuple[float, ...]]] = []
        self._first = self._numbers[0]
        self._written = time.monotonic()

    def run(self) -> int:
        """Do the work and return the exit status."""
        from caloforge.preprocessing.simulation import construction

        work = self._work
        try:
            self._geant4 = construction.Geant4(work.detector, work.physics, begin=self._begin, done=self._end)
            self._geant4.run(len(self._numbers))
        except construction.UnknownMaterial as error:
            return _wrong(f"Geant4 knows no material {error}")
        except construction.UnknownPhysics as error:
            return _wrong(f"Geant4 has no physics list {error}")
        finally:
            self._flush()
        if self.told_to_end:
            return STOPPED
        return 0 if self._next == len(self._numbers) else 1

    def _begin(self, event: int) -> Shot:
        number = self._numbers[event]
        volume = self._work.detector.volume
        self._shot = self._work.beam.shot(self._work.seed, number, normal_theta=volume.normal_theta)
        return self._shot

    def _end(self) -> None:
        shot, detector = self._shot, self._work.detector
        assert shot is not None
        steps = self._geant4.deposits()
        deposit, points = steps[:, 0], steps[:, 1:]
        axes, volume = shower_axes(shot.theta, shot.phi), detector.volume
        entry = np.array(volume.entry(direction(shot.theta, shot.phi), shot.spot))
        voxel = detector.readout.voxels(volume.read_out(points), entry, axes)
        inside = voxel >= 0
        energy = np.bincount(voxel[inside], weights=deposit[inside], minlength=detector.readout.n_voxels)
        energy[energy < detector.threshold_mev] = 0
        extra = (self._geant4.cpu_seconds(), deposit.sum(), deposit[inside].sum(), len(deposit))
        self._rows.append((shot, (energy * detector.scale).astype(np.float32), extra))
        self._next += 1
        last = self._next == len(self._numbers) or self._numbers[self._next] != self._numbers[self._next - 1] + 1
        full = len(self._rows) >= _MOST_IN_A_PART or time.monotonic() - self._written > _PART_SECONDS
        if last or full or self.told_to_end:
            self._flush()
        if self.told_to_end:
            self._geant4.stop()

    def _flush(self) -> None:
        if self._rows:
            shots, voxels, extra = zip(*self._rows, strict=True)
            beam = self._work.beam
            columns = {"incident_energy": [shot.energy for shot in shots]}
            if beam.theta is not None:
                columns["theta"] = [shot.theta for shot in shots]
            if beam.theta is not None or beam.phi is not None:
                columns["phi"] = [shot.phi for shot in shots]
            if len(beam.particles) > 1:
                columns["particle"] = [NAMES[shot.particle] for shot in shots]
            write_part(
                self._work.folder, self._numbers[self._next - len(shots)],
                conditions=Conditions.of({name: np.array(column) for name, column in columns.items()}),
                voxels=np.stack(voxels), extra=dict(zip(EXTRA, np.array(extra, np.float32).T, strict=True)),
                geant4=self._geant4.version,
            )  # fmt: skip
        self._rows, self._written = [], time.monotonic()


def _wrong(text: str) -> int:
    sys.stdout.write(f"\n{text}\n")
    return WRONG_INPUT


def main() -> NoReturn:
    """Do what standard input says, and leave without Geant4's teardown, which may crash."""
    code = 1
    try:
        work = Work.model_validate_json(sys.stdin.read())
        worker = Worker(work)

        def stop(*_: object) -> None:
            worker.told_to_end = True

        signal.signal(signal.SIGTERM, stop)
        end_with_runner()
        with at_work(work.folder):
            code = worker.run()
    except Exception:
        logger.exception("Geant4's process failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
