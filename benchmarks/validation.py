"""Time and memory of the validation on showers of 6480 voxels, beside a plain transcription of the definitions.

Usage: python benchmarks/validation.py SHOWERS.hdf5 [GEOMETRY] [--only deterministic,plain,prdc,quick,memory] [--n N]

SHOWERS are real ones of CaloChallenge's dataset 2 (its own file, or any on that mesh). Larger samples are drawn
from them with replacement, the reference's from the first half of the file and the others from the second, and each
voxel is scaled by a factor of its own, log-normal with a width of 5 %, so that no two showers are equal: a benchmark
needs their size and their sparsity, not new physics. Each measurement is a process of its own on both cores; peak
memory is that of the process, 0.2 GiB of imports included. The transcription's FPD and KPD are timed on one of their
20 draws and one of their 10 batches, and counted as often as they come. On a machine that others use compare CPU
seconds, with OMP_NUM_THREADS=1: threads that wait for each other count too.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from caloforge.showers import Showers, open_showers, write_showers
from caloforge.validation.metrics.challenge import THRESHOLDS, separations
from caloforge.validation.metrics.compare import distances
from caloforge.validation.metrics.frechet import challenge_fpd
from caloforge.validation.metrics.kernel import kpd
from caloforge.validation.metrics.prdc import log_voxels, prdc
from caloforge.validation.metrics.sample import Sample
from caloforge.validation.observables.summary import summarise
from caloforge.validation.registries import DISTRIBUTION_METRICS
from caloforge.validation.validate import validate

ORACLE = Path(__file__).parent.parent / "tests" / "validation" / "oracle.py"
DATASET = "dataset_2"
SMEARING = 0.05
TOTALS = [0.0, 0.0]
"""Seconds and CPU seconds of the parts of a measurement."""


def resample(source: Showers, rows: np.ndarray, target: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.sort(rows)
    with write_showers(target, source.geometry, attributes={}, provenance={}) as writer:
        for part in np.array_split(rows, max(1, len(rows) // 1000)):
            unique, place = np.unique(part, return_inverse=True)
            few = source.select(unique)
            voxels = few.read()[place]
            voxels *= np.exp(SMEARING * rng.standard_normal(voxels.shape, dtype=np.float32))
            writer.append(few.conditions.take(place), voxels)


def samples(source: Showers, n: int, folder: Path, names: tuple[str, ...]) -> list[Path]:
    rng = np.random.default_rng(0)
    half = len(source) // 2
    paths = []
    for i, name in enumerate(names):
        rows = rng.integers(half, size=n) + (half if i else 0)
        paths.append(folder / f"{name}_{n}.hdf5")
        resample(source, rows, paths[-1], seed=i)
    return paths


def deterministic(paths: list[Path]) -> None:
    def read(path: Path) -> Sample:
        showers = open_showers(path)
        return Sample(showers, summarise(showers, threshold=THRESHOLDS[DATASET]))

    x, y = step("reading and observables", lambda: [read(path) for path in paths])
    step("features", lambda: (x.features, y.features))
    step("separation", lambda: separations(x, y))
    step("wasserstein", lambda: distances(DISTRIBUTION_METRICS.get("wasserstein"), x.summary, y.summary))
    print("FPD", step("fpd", lambda: challenge_fpd(x.features, y.features)).value)
    print("KPD", step("kpd", lambda: kpd(x.features, y.features)).value)


def plain(paths: list[Path]) -> None:
    spec = importlib.util.spec_from_file_location("oracle", ORACLE)
    oracle: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(oracle)

    def read(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
        showers = open_showers(path)
        voxels = oracle.cut(showers.read(), THRESHOLDS[DATASET])
        return oracle.observables(showers.conditions.incident_energy, voxels, showers.geometry.layers), voxels

    both = step("reading and observables", lambda: [read(path) for path in paths])
    x, y = (oracle.features(observables) for observables, _ in both)
    showers = open_showers(paths[0])
    step("separation", lambda: oracle.separations(*both, showers.geometry.layers, DATASET))
    step("fpd, one of 20 draws of each size", lambda: oracle.fpd(x, y, n_draws=1), times=20)
    step("kpd, one of 10 batches", lambda: oracle.kpd(x, y, n_batches=1), times=10)


def distances_of_voxels(paths: list[Path]) -> None:
    x, y = (Sample(s, summarise(s, threshold=THRESHOLDS[DATASET])) for s in map(open_showers, paths))
    print({name: round(r.value, 4) for name, r in prdc(log_voxels(x.voxels()), log_voxels(y.voxels())).items()})


def quick(paths: list[Path]) -> None:
    reference, generated, floor = map(open_showers, paths)
    with tempfile.TemporaryDirectory() as folder:
        validate(reference, {"generated": generated}, Path(folder) / "out", floor=floor)


def streaming(paths: list[Path]) -> None:
    for path in paths:
        summarise(open_showers(path), threshold=THRESHOLDS[DATASET])


MEASUREMENTS: dict[str, tuple[Callable[[list[Path]], None], int, tuple[str, ...]]] = {
    "deterministic": (deterministic, 20_000, ("reference", "generated")),
    "plain": (plain, 20_000, ("reference", "generated")),
    "prdc": (distances_of_voxels, 20_000, ("reference", "generated")),
    "quick": (quick, 10_000, ("reference", "generated", "floor")),
    "memory": (streaming, 5_000, ("reference",)),
}


def step(name: str, function: Callable[[], Any], times: int = 1) -> Any:
    """Work out and time a part of a measurement that all of it has several times."""
    start, cpu = time.perf_counter(), time.process_time()
    result = function()
    spent = time.perf_counter() - start, time.process_time() - cpu
    print(f"  {name}: {spent[0]:.1f} s, {spent[1]:.1f} CPU s{f', {times} times' if times > 1 else ''}", flush=True)
    for i in range(2):
        TOTALS[i] += times * spent[i]
    return result


def measure(name: str, paths: list[Path]) -> None:
    start = time.perf_counter()
    MEASUREMENTS[name][0](paths)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"{name}: {time.perf_counter() - start:.1f} s, {usage.ru_utime + usage.ru_stime:.1f} CPU s, "
        f"peak {usage.ru_maxrss / 2**20:.2f} GiB"
    )
    if TOTALS[1]:
        print(f"{name}, its parts as often as they come: {TOTALS[0]:.0f} s, {TOTALS[1]:.0f} CPU s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "showers", type=Path, nargs="+", help="shower file, then the name of its geometry if it has none"
    )
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help="measurements, separated by commas")
    parser.add_argument("--n", type=int, help="showers of each sample instead of each measurement's own number")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.showers)
        return
    source = open_showers(arguments.showers[0], DATASET)
    print(f"{os.cpu_count()} cores, {len(source)} showers of {source.geometry.n_voxels} voxels to draw from")
    with tempfile.TemporaryDirectory() as folder:
        made: dict[int, list[Path]] = {}
        for name in arguments.only.split(","):
            _, n, roles = MEASUREMENTS[name]
            for size in (n, 4 * n) if name == "memory" else (arguments.n or n,):
                if len(made.get(size, [])) < len(roles):
                    made[size] = samples(source, size, Path(folder), roles)
                print(f"{name}, {size} showers of each sample", flush=True)
                paths = [str(path) for path in made[size][: len(roles)]]
                subprocess.run([sys.executable, "-P", __file__, *paths, "--measure", name], check=True)


if __name__ == "__main__":
    main()
