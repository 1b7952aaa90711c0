"""Peak memory of reading and preprocessing a file and one eight times as long.

Usage: python benchmarks/preprocess_memory.py SHOWERS.hdf5 [GEOMETRY]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from caloforge.preprocessing.prepare import prepare
from caloforge.showers import open_showers, write_showers

TIMES = 8


def repeat(source: Path, geometry: str | None, target: Path, times: int) -> None:
    showers = open_showers(source, geometry)
    attributes = {"energy_threshold": showers.threshold or 0.0}
    with write_showers(target, showers.geometry, attributes=attributes, provenance={}) as writer:
        for _ in range(times):
            start = 0
            for chunk in showers.chunks():
                writer.append(showers.conditions.take(slice(start, start + len(chunk))), chunk)
                start += len(chunk)


def measure(path: Path) -> None:
    """Print the peak resident memory in MB after the imports and after the work."""
    import torch  # noqa: F401 - its import is not part of what grows

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory() as folder:
        prepare(open_showers(path), Path(folder) / "prepared")
    print(f"{before:.0f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def main() -> None:
    if sys.argv[1] == "--measure":
        measure(Path(sys.argv[2]))
        return
    source, geometry = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory() as folder:
        for times in (1, TIMES):
            path = Path(folder) / f"{times}.hdf5"
            repeat(source, geometry, path, times)
            command = [sys.executable, "-P", __file__, "--measure", str(path)]
            imports, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            size = len(open_showers(path)) * open_showers(path).geometry.n_voxels * 4 / 2**20
            print(f"{times}x the showers, {size:.0f} MB in memory if read whole: peak {peak} MB ({imports} MB imports)")


if __name__ == "__main__":
    main()
