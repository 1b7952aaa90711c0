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

from caloforge.conditions import Conditions
from caloforge.domain import Domain, Domains, as_dict, spread_over
from caloforge.geometry import CylindricalGeometry, Layer, load_geometry, write_geometry
from caloforge.models.bundle import FORMAT, load_bundle, seal_bundle
from caloforge.models.families.tree import Tree, TreeConfig, TreeModelConfig
from caloforge.models.family import DataSpec

THRESHOLD, ENERGIES, SEED, N = 0.5, (10.0, 1000.0), 2**40 + 3, 300
ENERGY: Domains = {"incident_energy": Domain(low=ENERGIES[0], high=ENERGIES[1])}
ALL: Domains = {
    **ENERGY,
    "theta": Domain(low=0.1, high=0.9),
    "phi": Domain(low=2.0, high=5.0),
    "particle": Domain(values=(-211, 11, 22)),
}
MODEL = TreeModelConfig(layer_width=24, ring_width=40, cell_width=32, early_layers=2)
ODD = CylindricalGeometry(
    "odd",
    (Layer(0, (0.0, 2.0, 5.0), 1), Layer(1, (0.0,), 1), Layer(2, (0.0, 1.0, 3.0, 9.0), 10), Layer(3, (1.0, 4.0), 6)),
)
MESHES = {
    "regular": (load_geometry("siw_demo"), ENERGY),
    "odd": (ODD, ALL),
    "one_cell": (CylindricalGeometry("one", (Layer(0, (0.0, 1.0), 1), Layer(1, (0.0, 1.0), 3))), ENERGY),
}


def main(folder: Path) -> None:
    for name, (geometry, domains) in MESHES.items():
        bundle = folder / name
        bundle.mkdir(parents=True, exist_ok=True)
        write_bundle(bundle, geometry, domains)
        (folder / f"{name}.json").write_text(json.dumps(vectors(bundle, domains)), encoding="utf-8")


def write_bundle(bundle: Path, geometry: CylindricalGeometry, domains: Domains) -> None:
    torch.manual_seed(0)
    config = TreeConfig(family="tree", preset="demo", model=MODEL)
    tree = Tree(config, DataSpec(geometry, domains, THRESHOLD)).requires_grad_(False)
    energy = np.geomspace(*ENERGIES, 200)
    hits = np.clip(np.round(2 * energy**0.6), 1, geometry.n_voxels)
    n_kinds = tree.encoder.n_kinds
    kinds = np.eye(n_kinds)[np.arange(len(energy)) % n_kinds] if n_kinds else None
    tree.totals.fit(energy, hits, hits * THRESHOLD + 0.6 * energy, kinds)
    tree.totals.any_empty.fill_(1.0)
    tree.totals.gate[-1].bias.fill_(-2.0)
    for trend in (tree.totals.hits_trend, tree.totals.energy_trend):
        trend.log_spread.fill_(math.log(0.4))
    for networks in (tree.rings, tree.cells, tree.early):
        networks.spectrum.peaks.copy_(torch.tensor([1.0, 3.0]))
        networks.spectrum.quantiles.copy_(torch.tensor([0.6, 0.8, 1.0, 2.0, 4.0]))
        for network in (networks.counts, networks.shares):
            network[-1].weight.mul_(20)
    if "phi" in domains:
        tree.axis.directed.fill_(1.0)
        tree.axis.slope.normal_()
    save_file(tree.state_dict(), bundle / "weights.safetensors")
    write_geometry(geometry, bundle)
    (bundle / "training.json").write_text("{}", encoding="utf-8")
    (bundle / "README.md").write_text("Made by a test.\n", encoding="utf-8")
    content = {
        "format": FORMAT,
        "family": "tree",
        "preset": "demo",
        "settings": config.model_dump(mode="json", exclude={"family", "preset"}),
        "energies": {},
        "geometry": geometry.name,
        "conditions": as_dict(domains),
        "extrapolation": "refuse",
        "threshold": THRESHOLD,
    }
    seal_bundle(bundle, content)


def vectors(bundle: Path, domains: Domains) -> dict[str, object]:
    """Return conditions, and hits of each shower as (voxels, MeV)."""
    conditions = spread_over(domains, N)
    columns = {name: getattr(conditions, name).astype(np.float32).astype(float) for name in domains}
    showers = load_bundle(bundle).sample(Conditions.of(columns), seed=SEED)
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
