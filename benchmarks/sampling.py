"""Milliseconds of one core per shower, at several batch sizes, in PyTorch and in ONNX Runtime, beside Geant4.

Usage: python benchmarks/sampling.py BUNDLE_OR_RUN SHOWERS.hdf5 [BATCH ...]

BUNDLE_OR_RUN is a bundle, or what `caloforge run` or `caloforge demo` left. Batches are 1, 100 and 1000 showers
if none are given. Times are CPU times of this process with one thread, the least of several; PyTorch and ONNX
Runtime take turns, so that a busy machine slows both. Geant4 needs 9.5 ms of one core per GeV for the package's
Si-W showers (src/caloforge/data/README.md).
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from caloforge.models.agreement import TOLERANCE, relative_difference
from caloforge.models.bundle import condition_columns, load_bundle
from caloforge.models.export import ONNX_FILE, export
from caloforge.models.noise import NoiseStream
from caloforge.showers import Conditions, open_showers

GEANT4_MS_PER_GEV = 9.5
REPEATS = 4


def main() -> None:
    folder, showers = Path(sys.argv[1]), open_showers(Path(sys.argv[2]))
    batches = [int(word) for word in sys.argv[3:]] or [1, 100, 1000]
    torch.set_num_threads(1)
    rows = np.linspace(0, len(showers) - 1, max(batches)).astype(int)
    conditions = showers.select(rows).conditions
    energy = conditions.incident_energy.mean() / 1000
    print(
        f"{energy:.1f} GeV in the mean, {showers.geometry.n_voxels} voxels; Geant4 {GEANT4_MS_PER_GEV * energy:.0f} ms"
    )
    bundles = [folder] if (folder / "config.json").is_file() else sorted((folder / "bundles").iterdir())
    for bundle in bundles:
        measure(bundle, conditions, batches)


def measure(bundle: Path, conditions: Conditions, batches: list[int]) -> None:
    generator = load_bundle(bundle)
    with tempfile.TemporaryDirectory() as scratch:
        began = time.process_time()
        figures = export(bundle, Path(scratch) / "exported")
        seconds = time.process_time() - began
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            str(Path(scratch) / "exported" / ONNX_FILE), options, providers=["CPUExecutionProvider"]
        )
    columns = condition_columns(conditions, generator.condition_names)
    print(f"\n{generator.family}: exported in {seconds:.1f} s of CPU time, {figures['megabytes']:.1f} MB")
    print(f"{'batch':>8s} {'PyTorch':>10s} {'ONNX':>10s} {'ONNX / PyTorch':>15s} {'other showers':>14s}")
    for batch in batches:
        noise = NoiseStream(0, generator.network.noise_features).rows(batch)
        feeds = {name: columns[:batch, i : i + 1] for i, name in enumerate(generator.condition_names)}

        def in_torch(batch: int = batch) -> np.ndarray:
            return generator.sample(conditions.take(slice(0, batch)), seed=0, batch_size=batch)

        def in_onnx(feeds: dict[str, np.ndarray] = feeds, noise: np.ndarray = noise) -> np.ndarray:
            showers: np.ndarray = session.run(None, {**feeds, "noise": noise})[0]
            return showers

        different = relative_difference(in_onnx(), in_torch(), generator.threshold) > TOLERANCE
        ours, theirs = fastest([in_torch, in_onnx])
        print(
            f"{batch:8d} {1e3 * ours / batch:7.3f} ms {1e3 * theirs / batch:7.3f} ms {theirs / ours:15.2f}"
            f" {different.sum():8d} of {batch}"
        )


def fastest(ways: list[Callable[[], object]]) -> list[float]:
    """Return the least CPU seconds of each, in turns."""
    seconds = np.full(len(ways), np.inf)
    for _ in range(REPEATS):
        for i, way in enumerate(ways):
            began = time.process_time()
            way()
            seconds[i] = min(seconds[i], time.process_time() - began)
    return seconds.tolist()


if __name__ == "__main__":
    main()
