"""Milliseconds per shower on one core, beside Geant4 on the same showers.

Usage: python benchmarks/sampling.py RUN_FOLDER SHOWERS.hdf5 [BATCH]

RUN_FOLDER is what `caloforge run` or `caloforge demo` left. Geant4 needs 9.5 ms of one core per GeV
for the package's Si-W showers (src/caloforge/data/README.md).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from caloforge.models.bundle import load_bundle
from caloforge.models.export import ONNX_FILE, run_onnx
from caloforge.showers import open_showers

GEANT4_MS_PER_GEV = 9.5


def main() -> None:
    folder, showers = Path(sys.argv[1]), open_showers(Path(sys.argv[2]))
    batch = int(sys.argv[3]) if len(sys.argv) > 3 else None
    torch.set_num_threads(1)
    rows = np.linspace(0, len(showers) - 1, 1000).astype(int)
    conditions = showers.select(rows).conditions
    geant4 = GEANT4_MS_PER_GEV * conditions.incident_energy.mean() / 1000
    print(
        f"{len(conditions)} showers of {conditions.incident_energy.mean() / 1000:.1f} GeV in the mean, batch {batch or 'default'}"
    )
    print(f"{'generator':28s} {'ms/shower':>10s} {'Geant4 / it':>12s}")
    print(f"{'Geant4':28s} {geant4:10.2f} {1:12.0f}")
    for bundle in [*sorted((folder / "bundles").iterdir()), folder / "bundle"]:
        generator = load_bundle(bundle)
        times = []
        for _ in range(4):
            start = time.perf_counter()
            generator.sample(conditions, seed=0, batch_size=batch)
            times.append(time.perf_counter() - start)
        _report(f"{generator.family}{' (winner)' if bundle.name == 'bundle' else ''}", times, len(conditions), geant4)
        if (bundle / ONNX_FILE).is_file():
            start = time.perf_counter()
            run_onnx(bundle, conditions, seed=0, threads=1)
            _report(f"{generator.family}, ONNX with loading", [time.perf_counter() - start], len(conditions), geant4)


def _report(name: str, times: list[float], n: int, geant4: float) -> None:
    milliseconds = 1e3 * min(times) / n
    print(f"{name:28s} {milliseconds:10.3f} {geant4 / milliseconds:12.0f}")


if __name__ == "__main__":
    main()
