"""Kill `caloforge run` once at each of its steps, and compare what comes out with an undisturbed run.

Usage: python benchmarks/chaos.py OUTPUT [--tree]

Without --tree only the run itself is killed and its steps must end by themselves; with it, all
processes at once, as when a machine goes down.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from safetensors.numpy import load_file

from caloforge.files import read_json
from caloforge.showers import open_showers, write_showers

FAMILIES = ("vae", "wgan")
QUICK = {
    "training": {"steps": 40, "batch_size": 32, "checkpoint_seconds": 0},
    "energies": {"steps": 20, "batch_size": 32},
    "model": {"network": {"width": 16, "blocks": 1}},
}
SETTINGS = {"families": list(FAMILIES), "overrides": dict.fromkeys(FAMILIES, QUICK)}

POINT = re.compile(r".*?(?:\d\d:\d\d:\d\d  (?P<step>[a-z_ ]+): started|Executing task '(?P<task>compare|notify)').*")
"""Where a step begins to work; two steps say nothing themselves."""


def small_file(folder: Path) -> Path:
    showers = open_showers(Path(str(files("caloforge") / "data" / "demo_showers.hdf5"))).select(range(400))
    attributes = {key: showers.attributes[key] for key in ("energy_threshold", "source", "particle")}
    with write_showers(folder / "showers.hdf5", showers.geometry, attributes=attributes, provenance={}) as writer:
        writer.append(showers.conditions, showers.read())
    return folder / "showers.hdf5"


def run(data: Path, output: Path, settings: Path, *, spared: set[str] | None, tree: bool) -> str | None:
    """Run, kill at the first step that is not spared, and return its name; None when the run came to its end."""
    log = output / "run.log"
    seen = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-P", "-m", "caloforge", "run", "--data", data, "-o", output, "--settings", settings]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(0.02)
            if spared is None or not log.exists():
                continue
            with log.open("rb") as file:
                file.seek(seen)
                whole = file.read().rpartition(b"\n")[0]
            for line in whole.decode(errors="replace").splitlines():
                match = POINT.fullmatch(re.sub(r"\x1b\[[0-9;]*m", "", line))
                name = match and (match["step"] or match["task"])
                if name and name not in spared:
                    victims = [psutil.Process(process.pid)]
                    victims += victims[0].children(recursive=True) if tree else []
                    for victim in victims:
                        victim.kill()
                    psutil.wait_procs(victims)
                    return name
    if process.returncode:
        sys.exit(f"the run failed ({process.returncode}); see {log}")
    return None


def differences(one: Path, other: Path) -> list[str]:
    """Return what differs between two runs, but for times."""
    found = []
    boards = [read_json(folder / "leaderboard.json") for folder in (one, other)]
    if boards[0]["winner"] != boards[1]["winner"]:
        found.append(f"winner: {boards[0]['winner']} {boards[1]['winner']}")
    for path in ("bundle", *(f"bundles/{family}" for family in FAMILIES)):
        a, b = (load_file(folder / path / "weights.safetensors") for folder in (one, other))
        found += [f"{path}: {name}" for name in a.keys() | b.keys() if not np.array_equal(a.get(name), b.get(name))]
    for family in FAMILIES:
        a, b = (open_showers(folder / "generated" / f"{family}.hdf5").read() for folder in (one, other))
        if not np.array_equal(a, b):
            found.append(f"showers of {family}")
    metrics = [read_json(folder / "metrics.json") for folder in (one, other)]
    return found + _differing("metrics", *metrics)


def _differing(path: str, a: Any, b: Any) -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [text for key in a for text in _differing(f"{path}.{key}", a[key], b[key])]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [text for i in range(len(a)) for text in _differing(f"{path}[{i}]", a[i], b[i])]
    return [] if a == b or re.search("second|time|provenance|path|file", path) else [f"{path}: {a} {b}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--tree", action="store_true")
    arguments = parser.parse_args()
    output: Path = arguments.output.resolve()
    output.mkdir(parents=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    data, settings = small_file(output), output / "settings.yaml"
    settings.write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    run(data, output / "whole", settings, spared=None, tree=False)
    killed: set[str] = set()
    while name := run(data, output / "killed", settings, spared=killed, tree=arguments.tree):
        print(f"killed at {name}", flush=True)
        killed.add(name)
    found = differences(output / "whole", output / "killed")
    left = [process.pid for process in psutil.process_iter(["cmdline"]) if str(output) in str(process.info["cmdline"])]
    left = [pid for pid in left if pid != os.getpid()]
    print(f"{len(killed)} kills; differences: {found or 'none'}; processes left: {left or 'none'}")
    sys.exit(bool(found or left))


if __name__ == "__main__":
    main()
