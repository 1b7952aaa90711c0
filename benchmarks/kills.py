"""Kill `run`, `tune` and a training of two processes at random points, and compare what they come to with undisturbed ones.

Usage: python benchmarks/kills.py OUTPUT [--points 20] [--minutes 30] [--seed 1] [--only NAME]

Every process dies at once (SIGKILL), as when a machine goes down, and the same command is given again. In the end
the weights must be those of an undisturbed run, and neither the folders nor TMPDIR may hold anything that those of
the undisturbed one do not. ``--minutes`` bounds the killing, and each work is killed once at least; the figures say how
many points there were.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import yaml
from chaos import QUICK, small_file
from safetensors.numpy import load_file

from caloforge.temporary import is_temporary

_STAGE = {"steps": 20, "batch_size": 32, "checkpoint_seconds": 0}
TREE = {
    "model": {"layer_width": 16, "ring_width": 16, "cell_width": 16},
    **dict.fromkeys(("totals", "layers", "rings", "cells", "early"), _STAGE),
}
SETTINGS = {"families": ["tree"], "overrides": {"tree": TREE}, "optimise": None}
"""A family without layer energies, and no measuring of speed: either would take longer than all else."""


@dataclass(frozen=True)
class Work:
    """A command that goes on where it was stopped.

    Attributes:
        name: for the figures.
        arguments: of the command line, but for the output.
        weights: files under the output whose numbers must be those of an undisturbed one.
    """

    name: str
    arguments: Sequence[str]
    weights: str


def works(folder: Path) -> list[Work]:
    """Prepare the data, and return what is killed."""
    data = small_file(folder)
    settings, overrides = folder / "settings.yaml", folder / "overrides.yaml"
    settings.write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    overrides.write_text(yaml.safe_dump(QUICK), encoding="utf-8")
    prepared = folder / "prepared"
    _start(["preprocess", f"--data={data}", "-o", str(prepared)]).wait()
    return [
        Work(
            "tune",
            ["tune", f"--data={data}", "--family=vae", "--trials=2", "--algorithm=random", "--seed=1",
             f"--overrides={overrides}"],
            "overrides.json",
        ),
        Work(
            "training of two processes",
            ["train", f"--data={data}", f"--prepared={prepared}", "--family=vae", f"--overrides={overrides}",
             "--processes=2"],
            "weights.safetensors",
        ),
        Work("run", ["run", f"--data={data}", f"--settings={settings}"], "bundles/*/weights.safetensors"),
    ]  # fmt: skip


def _start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "caloforge", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(work: Work, output: Path) -> float:
    """Let the command come to its end and return the seconds that it took."""
    began = time.monotonic()
    process = _start([*work.arguments, f"--output={output}"])
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"{work.name}: failed ({process.returncode}): {errors.decode(errors='replace')[-2000:]}")
    return time.monotonic() - began


def kill(work: Work, output: Path, after: float) -> bool:
    """Kill the command and all that it started some seconds after its start; False if it was done before."""
    process = _start([*work.arguments, f"--output={output}"])
    assert process.stderr is not None
    process.stderr.close()
    time.sleep(after)
    if process.poll() is not None:
        return False
    victims = [psutil.Process(process.pid)]
    victims += victims[0].children(recursive=True)
    for victim in victims:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(victims)
    return True


def contents(folder: Path) -> set[str]:
    """Return the names under a folder that say something: those of steps carry numbers of their run."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return {name for name in names if not name.startswith("steps/")} | {
        name for name in names if any(is_temporary(part) for part in name.split("/"))
    }


def differences(work: Work, one: Path, other: Path) -> list[str]:
    """Return what an undisturbed run has and the killed one has not, and the other way round."""
    found = []
    for path in one.glob(work.weights):
        there = other / path.relative_to(one)
        if path.suffix == ".json":
            same = path.read_bytes() == there.read_bytes()
        else:
            a, b = load_file(path), load_file(there)
            same = a.keys() == b.keys() and all(np.allclose(a[name], b[name], rtol=1e-4, atol=1e-6) for name in a)
        found += [] if same else [f"{work.name}: {path.relative_to(one)} differs"]
    found += [f"{work.name}: only in one: {name}" for name in sorted(contents(one) ^ contents(other))]
    return found + [f"{work.name}: left beside: {path.name}" for path in other.parent.glob(f".{other.name}.*")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="name of the one work to kill")
    arguments = parser.parse_args()
    folder: Path = arguments.output.resolve()
    (folder / "tmp").mkdir(parents=True)
    os.environ.update({"TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"})
    rng, found, deadline = random.Random(arguments.seed), [], time.monotonic() + 60 * arguments.minutes
    done: dict[str, int] = {}
    usual: set[str] = set()
    prepared = [work for work in works(folder) if arguments.only in (None, work.name)]
    for number, work in enumerate(prepared):
        whole, killed = folder / f"{number}-whole", folder / f"{number}-killed"
        seconds = finish(work, whole)
        if not done:
            usual = {path.name for path in (folder / "tmp").iterdir()}  # PyTorch keeps a cache there
        share = (deadline - time.monotonic()) / (len(prepared) - number)
        ends = time.monotonic() + share
        for point in range(round(arguments.points * (number + 1) / len(prepared)) - sum(done.values())):
            if point and time.monotonic() > ends:
                break
            if kill(work, killed, rng.uniform(0.05, 0.95) * seconds):
                done[work.name] = done.get(work.name, 0) + 1
            else:  # it had come to its end meanwhile: what is killed now begins anew
                found += differences(work, whole, killed)
                killed = killed.with_name(f"{killed.name}-{sum(done.values())}")
        finish(work, killed)
        found += (last := differences(work, whole, killed))
        print(
            f"{work.name}: {done.get(work.name, 0)} kills, {seconds:.0f} s undisturbed; {last or 'all as it'}",
            flush=True,
        )
    found += [f"left in TMPDIR: {path.name}" for path in (folder / "tmp").iterdir() if path.name not in usual]
    left = [one.pid for one in psutil.process_iter(["cmdline"]) if str(folder) in str(one.info["cmdline"])]
    found += [f"process {pid} is left" for pid in left if pid not in (os.getpid(), os.getppid())]
    print(f"{sum(done.values())} kills; lost or left: {'; '.join(found) or 'nothing'}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
