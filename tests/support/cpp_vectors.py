"""Bundles of small trees and showers of them, for the tests of serving/cpp: cpp_vectors.py FOLDER.

The networks have learnt nothing, but say something: every number that they return depends on all that they see.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from caloforge.geometry import Geometry, Layer, load_geometry
from caloforge.models.bundle import load_bundle, seal_bundle
from caloforge.models.families.tree import Tree, TreeConfig, TreeModelConfig
from caloforge.models.family import DataSpec
from caloforge.showers import Conditions

THRESHOLD, ENERGIES, SEED, N = 0.5, (10.0, 1000.0), 2**40 + 3, 300
MODEL = TreeModelConfig(layer_width=24, ring_width=40, cell_width=32, early_layers=2)
ODD = Geometry(
    "odd",
    (Layer(0, (0.0, 2.0, 5.0), 1), Layer(1, (0.0,), 1), Layer(2, (0.0, 1.0, 3.0, 9.0), 10), Layer(3, (1.0, 4.0), 6)),
)
MESHES = {
    "regular": (load_geometry("siw_demo"), ("incident_energy",)),
    "odd": (ODD, ("incident_energy", "theta", "phi")),
    "one_cell": (Geometry("one", (Layer(0, (0.0, 1.0), 1), Layer(1, (0.0, 1.0), 3))), ("incident_energy",)),
}


def main(folder: Path) -> None:
    for name, (geometry, conditions) in MESHES.items():
        bundle = folder / name
        bundle.mkdir(parents=True, exist_ok=True)
        write_bundle(bundle, geometry, conditions)
        (folder / f"{name}.json").write_text(json.dumps(vectors(bundle, conditions)), encoding="utf-8")


def write_bundle(bundle: Path, geometry: Geometry, conditions: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    config = TreeConfig(family="tree", preset="demo", model=MODEL)
    tree = Tree(config, DataSpec(geometry, conditions, ENERGIES, THRESHOLD)).requires_grad_(False)
    energy = np.geomspace(*ENERGIES, 200)
    hits = np.clip(np.round(2 * energy**0.6), 1, geometry.n_voxels)
    tree.totals.fit(energy, hits, hits * THRESHOLD + 0.6 * energy)
    tree.totals.any_empty.fill_(1.0)
    tree.totals.gate[-1].bias.fill_(-2.0)
    for trend in (tree.totals.hits_trend, tree.totals.energy_trend):
        trend.log_spread.fill_(math.log(0.4))
    for networks in (tree.rings, tree.cells, tree.early):
        networks.spectrum.peaks.copy_(torch.tensor([1.0, 3.0]))
        networks.spectrum.quantiles.copy_(torch.tensor([0.6, 0.8, 1.0, 2.0, 4.0]))
        for network in (networks.counts, networks.shares):
            network[-1].weight.mul_(20)
    if "phi" in conditions:
        tree.axis.directed.fill_(1.0)
        tree.axis.slope.normal_()
    save_file(tree.state_dict(), bundle / "weights.safetensors")
    geometry.write(bundle / "geometry.xml")
    (bundle / "training.json").write_text("{}", encoding="utf-8")
    (bundle / "README.md").write_text("Made by a test.\n", encoding="utf-8")
    content = {
        "format": 3,
        "family": "tree",
        "preset": "demo",
        "settings": config.model_dump(mode="json", exclude={"family", "preset"}),
        "energies": {},
        "geometry": geometry.name,
        "conditions": list(conditions),
        "energy_range": list(ENERGIES),
        "extrapolation": "refuse",
        "threshold": THRESHOLD,
    }
    seal_bundle(bundle, content)


def vectors(bundle: Path, names: tuple[str, ...]) -> dict[str, object]:
    """Return conditions, and hits of each shower as (voxels, MeV)."""
    random = np.random.default_rng(0)
    columns = {"incident_energy": np.geomspace(*ENERGIES, N).astype(np.float32).astype(float)}
    columns |= {name: random.uniform(0.1, 3, N).astype(np.float32).astype(float) for name in names[1:]}
    showers = load_bundle(bundle).sample(Conditions(**columns), seed=SEED)
    words = np.random.Philox(key=SEED, counter=[0, 5, 0, 0]).random_raw(8)
    return {
        "seed": SEED,
        "words_of_shower_5": [int(word) for word in words],
        "conditions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
        "showers": [[np.flatnonzero(x).tolist(), x[x > 0].astype(float).tolist()] for x in showers],
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
