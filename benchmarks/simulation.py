"""CPU time for each GeV of ``caloforge simulate`` and of the bare binding, in turns, so that a busy machine is fair to both.

The bare binding is the shortest program that gets the same: the same volumes and physics, and a sensitive detector that
keeps deposit and place of each step. Two smaller ones say what Geant4 costs alone: one that adds up the deposits, and one
that takes nothing at all.

Usage: python benchmarks/simulation.py [ROUNDS]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path
from typing import Any

from caloforge.preprocessing.simulation.beam import Beam
from caloforge.preprocessing.simulation.detector import load_detector
from caloforge.preprocessing.simulation.geant4 import data_environment
from caloforge.preprocessing.simulation.simulate import Simulation, simulate

MEV, N, SEED = 10_000.0, 20, 1
BARE = {
    "deposits and places": "the bare binding: deposit and place of each step",
    "deposits": "the binding, deposits added up",
    "nothing": "the binding, nothing taken",
}


def bare(taken: str) -> None:
    """Print the CPU time for each GeV without the first shower, which waits for the physics' tables; then leave."""
    import geant4_pybind as g4

    from caloforge.preprocessing.simulation import construction

    class Detector(g4.G4VSensitiveDetector):
        def __init__(self) -> None:
            super().__init__("bare")
            self.total, self.steps = 0.0, array("d")

        def ProcessHits(self, step: Any, _: Any) -> bool:
            deposit = step.GetTotalEnergyDeposit()
            if taken == "deposits":
                self.total += deposit
            elif deposit > 0:
                a, b = step.GetPreStepPoint().GetPosition(), step.GetPostStepPoint().GetPosition()
                self.steps.extend((deposit, (a.x + b.x) / 2, (a.y + b.y) / 2, (a.z + b.z) / 2))
            return True

    def take(self: Any) -> None:
        if taken != "nothing":
            self._bare = Detector()
            g4.G4SDManager.GetSDMpointer().AddNewDetector(self._bare)
            for volume in self._sensitive:
                volume.SetSensitiveDetector(self._bare)

    ends: list[float] = []
    construction.Construction.ConstructSDandField = take
    beam, siw = Beam(energy=(MEV, MEV)), load_detector("siw")
    geant4 = construction.Geant4(
        siw, "em",
        begin=lambda number: beam.shot(SEED, number, normal_theta=siw.volume.normal_theta),
        done=lambda: ends.append(time.process_time()),
    )  # fmt: skip
    geant4.run(N)
    print(f"\nper GeV {(ends[-1] - ends[0]) / (N - 1) / MEV * 1e3}", flush=True)
    os._exit(0)


def measured(taken: str, folder: Path) -> float:
    environment = {**os.environ, **data_environment("em", folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--bare", taken]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.rpartition("per GeV ")[2])


def ours(folder: Path) -> float:
    import h5py

    simulation = Simulation(detector=load_detector("siw"), beam=Beam(energy=(MEV, MEV)), seed=SEED, n=N)
    simulate(simulation, folder / "showers.hdf5")
    with h5py.File(folder / "showers.hdf5") as file:
        return float(file["extra/cpu_seconds"][1:].mean() / MEV * 1e3)


def main(rounds: int) -> None:
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(rounds):
            found.setdefault("caloforge simulate", []).append(ours(Path(name)))
            for taken, title in BARE.items():
                found.setdefault(title, []).append(measured(taken, Path(name)))
    best = {title: min(values) for title, values in found.items()}
    reference = best[BARE["deposits and places"]]
    print(
        f"| {N} electrons of {MEV / 1e3:g} GeV, the best of {rounds} | CPU s per GeV | of the bare binding |\n|---|---|---|"
    )
    for title, value in best.items():
        print(f"| {title} | {value:.4f} | {value / reference:.2f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        bare(sys.argv[2])
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
