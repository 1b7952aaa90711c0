"""Speed of convert and inspect, and peak memory of what reads showers at N and at 10 N of them.

Usage: python benchmarks/readers.py SHOWERS.hdf5 [--bundle BUNDLE] [--n 1000]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path

import h5py
import numpy as np

from caloforge.preprocessing.convert import convert, inspect
from caloforge.preprocessing.prepare import prepare
from caloforge.showers import Conditions, open_showers, write_showers

TIMES = 10


def ours(source: Path, target: Path, n: int) -> Path:
    """Write n showers of a source, again from its first where it has fewer."""
    showers = open_showers(source)
    attributes = {"energy_threshold": showers.threshold or 0.0}
    with write_showers(target, showers.geometry, attributes=attributes, provenance={}) as writer:
        left = n
        while left:
            for conditions, voxels in showers.pairs():
                taken = min(left, len(voxels))
                if taken:
                    writer.append(conditions.take(slice(0, taken)), voxels[:taken])
                left -= taken
    return target


def others(source: Path, target: Path, n: int, **options: object) -> Path:
    """Write n showers of a source as h5py's users do."""
    showers = open_showers(source)
    rows = np.arange(n) % len(showers)
    with h5py.File(target, "w") as file:
        file["incident_energies"] = showers.conditions.incident_energy[rows][:, None]
        data = file.create_dataset("showers", (n, showers.geometry.n_voxels), "f4", **options)
        start = 0
        while start < n:
            for _, voxels in showers.pairs():
                part = voxels[: n - start]
                data[start : start + len(part)] = part
                start += len(part)
        file.attrs["geometry_name"], file.attrs["geometry_xml"] = showers.geometry.name, showers.geometry.to_text()
    return target


def par04(source: Path, target: Path, n: int) -> Path:
    """Write n showers as Par04 does: (N, R, PHI, Z)."""
    showers = open_showers(source)
    first, layers = showers.geometry.active_layers[0], showers.geometry.n_layers
    rows = np.arange(n) % len(showers)
    with h5py.File(target, "w") as file:
        file["incident_energy"] = showers.conditions.incident_energy[rows]
        data = file.create_dataset(
            "showers", (n, first.n_r, first.n_alpha, layers), "f4", chunks=(64, first.n_r, first.n_alpha, layers),
            compression="gzip",
        )  # fmt: skip
        start = 0
        while start < n:
            for _, voxels in showers.pairs():
                part = voxels[: n - start].reshape(-1, layers, first.n_alpha, first.n_r)
                data[start : start + len(part)] = part.transpose(0, 3, 2, 1)
                start += len(part)
    return target


def speeds(source: Path, folder: Path, n: int) -> None:
    kinds: dict[str, Callable[[Path], Path]] = {
        "as caloforge writes": lambda path: ours(source, path, n),
        "gzip 4, shuffled, h5py's chunks": lambda path: others(source, path, n, compression="gzip", shuffle=True),
        "uncompressed": lambda path: others(source, path, n),
        "Par04, gzip 4": lambda path: par04(source, path, n),
    }
    print("| source | size | convert | inspect |\n|---|---|---|---|")
    for number, (name, make) in enumerate(kinds.items()):
        path = make(folder / f"SiW_{number}.hdf5")
        volume = n * open_showers(source).geometry.n_voxels * 4 / 1e6
        with Path(os.devnull).open("w", encoding="utf-8") as quiet, redirect_stderr(quiet):
            figures = []
            for work in (lambda path=path: convert([path], folder / "out.hdf5"), lambda path=path: inspect([path])):
                work()
                start = time.process_time()
                work()
                figures.append(volume / (time.process_time() - start))
        print(
            f"| {name} | {path.stat().st_size / 1e6:.1f} of {volume:.0f} MB | {figures[0]:.0f} MB/s | {figures[1]:.0f} MB/s |"
        )
        path.unlink()


def works(bundle: Path | None) -> Iterator[str]:
    yield from ("convert", "inspect", "preprocess", "train", "validate")
    if bundle is not None:
        yield "generate"


def measure(work: str, path: Path, bundle: Path | None) -> None:
    """Print the peak resident memory in MB after the imports and after the work."""
    import torch  # noqa: F401 - its import is not part of what grows

    from caloforge.models.generate import generate
    from caloforge.validation.validate import validate

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory() as made:
        output = Path(made) / "out"
        if work == "convert":
            convert([path], output)
        elif work == "inspect":
            inspect([path])
        elif work == "preprocess":
            prepare(open_showers(path), output)
        elif work == "generate" and bundle is not None:
            energies = open_showers(path).conditions.incident_energy
            generate(bundle, Conditions(energies), output, seed=0)
        elif work == "validate":
            validate(open_showers(path), {"again": open_showers(path)}, output, protocol="quick", seed=0)
        elif work == "train":
            draw_batches(path, output)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if work == "train":  # what is mapped from the scratch file is the disk's cache, which goes when memory is short
        (line,) = (
            one
            for one in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
            if one.startswith("RssAnon")
        )
        peak = int(line.split()[1]) / 1024
    print(json.dumps([before, peak]))


def draw_batches(path: Path, folder: Path) -> None:
    """Do what a training does with showers: unpack the split and draw batches of it."""
    import torch
    from lightning_fabric import Fabric

    from caloforge.draws import Draws
    from caloforge.models.training.data import TrainingData
    from caloforge.preprocessing.prepared import load_prepared, open_split

    prepare(open_showers(path), folder / "prepared")
    data = TrainingData(
        open_split(path, folder / "prepared", "train"), load_prepared(folder / "prepared"), folder / "scratch",
        seed=0, fabric=Fabric(accelerator="cpu"),
    )  # fmt: skip
    for number in range(100):
        _ = data.batch(number, 128, Draws(torch.Generator().manual_seed(number))).voxels


def memories(source: Path, folder: Path, n: int, bundle: Path | None) -> None:
    print("\n| what | N | peak | 10 N | peak |\n|---|---|---|---|---|")
    for work in works(bundle):
        cells = []
        for times in (1, TIMES):
            path = ours(source, folder / "n.hdf5", n * times)
            command = [sys.executable, "-P", __file__, str(path), "--measure", work]
            command += ["--bundle", str(bundle)] if bundle is not None else []
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            imports, peak = json.loads(done.stdout.splitlines()[-1])
            cells += [f"{n * times}", f"{peak:.0f} MB ({imports:.0f} MB imports)"]
        print(f"| {work} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("showers", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--measure")
    parser.add_argument("--memory-only", action="store_true")
    given = parser.parse_args()
    if given.measure:
        measure(given.measure, given.showers, given.bundle)
        return
    with tempfile.TemporaryDirectory() as made:
        if not given.memory_only:
            speeds(given.showers, Path(made), 4 * given.n)
        memories(given.showers, Path(made), given.n, given.bundle)


if __name__ == "__main__":
    main()
