"""Whether old and new ONNX Runtimes draw the showers of an exported generator that PyTorch draws.

Usage: python benchmarks/onnx_compat.py WORK [--families tree vae ...] [--opset 17] [--runtimes 1.16.3 1.18.1 ... newest]

Trains each family for some seconds on the bundled showers, exports it, and runs the same conditions and noise, and the same
seed through the graph with the random numbers inside, through each ONNX Runtime, in an environment of its own that pip makes in
WORK; a second call uses what is there. Prints a table.
Rounding turns a choice now and then, of hits or of the energy of a split, and another shower of the same kind comes out.
Ends with 1 if a runtime does not load a graph, if fewer than 98 % of the showers agree with PyTorch's within 1e-5 of
their energy, or if more than 1 % differ by more than 1e-4: turned choices. A runtime that pip has not for this Python is a
line of its own, and no failure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from importlib.resources import files
from pathlib import Path

import numpy as np

from caloforge.models.bundle import condition_columns, load_bundle
from caloforge.models.configuration import TrainingRequest
from caloforge.models.export import ONNX_FILE, SEEDED_FILE, export
from caloforge.models.noise import NoiseStream
from caloforge.models.onnx_random import OLDEST_OPSET
from caloforge.models.registries import FAMILIES
from caloforge.models.training.train import train
from caloforge.preprocessing.prepare import prepare
from caloforge.showers import open_showers

RUNTIMES = ("1.16.3", "1.17.3", "1.18.1", "1.20.1", "newest")
CLOSE, FAR = 1e-5, 1e-4
"""Of the shower's energy: rounding, and more than that."""
FEWEST_CLOSE, MOST_FAR = 0.98, 0.01
SHOWERS = 500
TRAINING_MINUTES = 0.25
SEED = 1

RUN = """
import json, sys, time
import numpy, onnxruntime
begun = time.perf_counter()
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
loaded = time.perf_counter() - begun
numpy.save(sys.argv[3], session.run(["showers"], dict(numpy.load(sys.argv[2])))[0])
print(json.dumps([onnxruntime.__version__, loaded]))
"""
"""What runs in the environments, which have numpy and ONNX Runtime and nothing else."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    parser.add_argument("--opset", type=int)
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES))
    arguments = parser.parse_args()
    bundles = [exported(name, arguments.work, opset=arguments.opset) for name in arguments.families]
    heads = (
        "family",
        "random numbers",
        "operator set",
        "ONNX Runtime",
        "s to load",
        "beyond 1e-5",
        "beyond 1e-4",
        "other hits",
        "largest of the rest",
    )
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads), flush=True)
    fine = True
    for version in arguments.runtimes:
        python = environment(version, arguments.work)
        if python is None:
            print(f"| | | | {version} | not for this Python | | | | |")
            continue
        for bundle in bundles:
            for seeded in (False, True):
                if (bundle / "bundle" / (SEEDED_FILE if seeded else ONNX_FILE)).is_file():
                    fine &= compare(bundle, python, version, arguments.work, seeded=seeded)
    sys.exit(not fine)


def exported(family: str, work: Path, *, opset: int | None) -> Path:
    """Train a family for a moment and export it, with PyTorch's showers and what they are made of beside it."""
    output = work / f"{family}-{opset or 'default'}"
    if (output / "given.npz").is_file():
        return output
    data, prepared, bundle = (
        Path(str(files("caloforge") / "data" / "demo_showers.hdf5")),
        work / "prepared",
        work / family,
    )
    if not prepared.is_dir():
        prepare(open_showers(data), prepared, seed=SEED)
    if not bundle.is_dir():
        train(
            TrainingRequest(
                showers=data, prepared=prepared, output=bundle, family=family, seed=SEED, max_minutes=TRAINING_MINUTES
            )
        )
    export(bundle, output / "bundle", opset=opset, seeded=opset is None or opset >= OLDEST_OPSET)
    generator = load_bundle(bundle)
    conditions = open_showers(data).conditions.take(slice(0, SHOWERS))
    columns = condition_columns(conditions, generator.condition_names)
    given = {name: columns[:, i : i + 1] for i, name in enumerate(generator.condition_names)}
    noise = NoiseStream(SEED, generator.network.noise_features).rows(SHOWERS)
    np.save(output / "expected.npy", generator.sample(conditions, seed=SEED))
    np.savez(output / "seeded.npz", allow_pickle=False, **given, seed=np.array(SEED), first=np.array(0))
    np.savez(output / "given.npz", allow_pickle=False, **given, noise=noise)
    return output


def environment(version: str, work: Path) -> Path | None:
    """Make an environment with an ONNX Runtime and return its Python; None if pip has none for this one."""
    folder = work / f"onnxruntime-{version}"
    python = folder / "bin" / "python"
    if not (folder / "ready").is_file():
        venv.create(folder, with_pip=True, clear=True)
        wanted = ["onnxruntime"] if version == "newest" else [f"onnxruntime=={version}", "numpy<2"]
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
        if subprocess.run(command, check=False).returncode:
            return None
        (folder / "ready").touch()
    return python


def compare(output: Path, python: Path, version: str, work: Path, *, seeded: bool) -> bool:
    """Run a graph in a runtime, print its line, and return whether it draws PyTorch's showers."""
    content = json.loads((output / "bundle" / "onnx.json").read_text(encoding="utf-8"))
    name, drawn = f"{output.name.rpartition('-')[0]} | {'inside' if seeded else 'input'}", work / "drawn.npy"
    graph, given = (SEEDED_FILE, "seeded.npz") if seeded else (ONNX_FILE, "given.npz")
    opset = (content["seeded"] if seeded else content)["opset"]
    words = [python, "-c", RUN, output / "bundle" / graph, output / given, drawn]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        print(f"| {name} | {opset} | {version} | failed: {done.stderr.strip().splitlines()[-1]} | | | | |")
        return False
    exact, seconds = json.loads(done.stdout)
    found, expected = np.load(drawn), np.load(output / "expected.npy")
    difference = np.abs(found.astype(np.float64) - expected).max(axis=1) / expected.sum(axis=1, dtype=np.float64)
    other_hits = ((found > 0) != (expected > 0)).any(axis=1)
    close, far = difference <= CLOSE, difference > FAR
    counts = f"{(~close).sum()} of {len(close)} | {far.sum()} | {other_hits.sum()} | {difference[~far].max():.1e}"
    print(f"| {name} | {opset} | {exact} | {seconds:.2f} | {counts} |", flush=True)
    return bool(close.mean() >= FEWEST_CLOSE and far.mean() <= MOST_FAR)


if __name__ == "__main__":
    main()
