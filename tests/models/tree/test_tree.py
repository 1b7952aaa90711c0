"""The whole tree: a probability, the same drawn as learnt, the same in any batch."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from cell_grids import unlike_cells
from torch import Tensor

from caloforge.conditions import ConditionName
from caloforge.domain import Domain, Domains
from caloforge.geometry import CellGeometry, CylindricalGeometry, Geometry, Layer, load_geometry
from caloforge.models.families.tree import Tree, TreeConfig, TreeModelConfig
from caloforge.models.family import DataSpec
from caloforge.models.tree.rows import Rows, SplitNetworks
from caloforge.models.tree.totals import Totals
from caloforge.models.tree.trend import Trend

pytestmark = pytest.mark.slow

THRESHOLD = 0.5
DOMAINS: Domains = {
    "incident_energy": Domain(low=10.0, high=1000.0),
    "theta": Domain(low=0.0, high=2.0),
    "phi": Domain(low=0.0, high=2.0),
    "particle": Domain(values=(11.0, 22.0)),
}
ODD = CylindricalGeometry(
    "odd",
    (Layer(0, (0.0, 2.0, 5.0), 1), Layer(1, (0.0,), 1), Layer(2, (0.0, 1.0, 3.0, 9.0), 10), Layer(3, (1.0, 4.0), 6)),
)
THREE_CELLS = {
    "layers and cells": CylindricalGeometry("a", (Layer(0, (0.0, 1.0), 1), Layer(1, (0.0, 1.0), 2))),
    "layers and rings": CylindricalGeometry("b", (Layer(0, (0.0, 1.0, 2.0), 1), Layer(1, (0.0, 1.0), 1))),
    "rings and cells": CylindricalGeometry("c", (Layer(0, (0.0, 1.0), 3),)),
    "unequal cells": CellGeometry.from_text("channel,x,y,width,height\na,0,0,2,4\nb,2,1,2,2\nc,2,-1,2,2", name="d"),
}


def build(
    geometry: Geometry, *, seed: int = 0, conditions: tuple[ConditionName, ...] = ("incident_energy",), width: int = 64
) -> Tree:
    """A tree whose networks say something, though they have learnt nothing."""
    torch.manual_seed(seed)
    model = TreeModelConfig(ring_width=width, cell_width=width)
    config = TreeConfig(family="tree", preset="demo", model=model)
    tree = (
        Tree(config, DataSpec(geometry, {name: DOMAINS[name] for name in conditions}, THRESHOLD))
        .eval()
        .requires_grad_(False)
    )
    energy = np.geomspace(10, 1000, 200)
    hits = np.clip(np.round(0.3 * energy**0.6), 1, geometry.n_voxels)
    tree.totals.fit(energy, hits, hits * THRESHOLD + 0.6 * energy)
    for trend in (tree.totals.hits_trend, tree.totals.energy_trend):
        trend.log_spread.fill_(math.log(0.4))
    for networks in (tree.rings, tree.cells, tree.early):
        networks.spectrum.peaks.copy_(torch.tensor([1.0, 3.0]))
        networks.spectrum.quantiles.copy_(torch.tensor([0.6, 0.8, 1.0, 2.0, 4.0]))
    return tree


def draw(tree: Tree, n: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    conditions = torch.rand(n, len(tree.data.conditions), generator=generator) * 2
    conditions[:, 0] = 10 * 100 ** torch.rand(n, generator=generator)
    noise = torch.randn(n, tree.noise_features, generator=generator)
    with torch.inference_mode():
        return conditions, noise, tree(conditions, noise)


@pytest.mark.parametrize("name", THREE_CELLS)
def test_the_likelihood_adds_up_to_one(name: str) -> None:
    """Sum over all patterns of hits, integral over all energies e = t + exp(a) of the hits."""
    tree = build(THREE_CELLS[name])
    tree.totals.any_empty.fill_(1.0)
    a = torch.arange(-9, 9.01, 0.75, dtype=torch.float64)
    total = 0.0
    for pattern in product((False, True), repeat=3):
        cells = torch.tensor(pattern)
        n = int(cells.sum())
        grid = torch.cartesian_prod(*[a] * n).reshape(-1, n) if n else torch.zeros(1, 0, dtype=torch.float64)
        voxels = torch.zeros(len(grid), 3)
        voxels[:, cells] = (THRESHOLD + grid.exp()).float()
        conditions = torch.full((len(grid), 1), 30.0)
        log_p = sum(tree.log_prob(conditions, voxels).values())
        total += float((log_p.double() + grid.sum(1)).exp().sum() * 0.75**n)
    assert total == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("geometry", [ODD, load_geometry("siw_demo"), unlike_cells()], ids=lambda g: g.name)
def test_a_drawn_shower_is_split_as_it_was_drawn(geometry: Geometry, monkeypatch: pytest.MonkeyPatch) -> None:
    """What networks saw while drawing is what they are taught from the finished shower."""
    tree = build(geometry)
    tree.axis.directed.fill_(1.0)
    tree.axis.slope.normal_(generator=torch.Generator().manual_seed(0))
    drawn: dict[SplitNetworks, list[Rows]] = {tree.rings: [], tree.cells: [], tree.early: []}
    draw_rows = SplitNetworks.draw

    def keeping(self: SplitNetworks, rows: Rows, *args: Any) -> Any:
        drawn[self].append(rows)
        return draw_rows(self, rows, *args)

    monkeypatch.setattr(SplitNetworks, "draw", keeping)
    conditions, _, showers = draw(tree, 20)
    state, about, *_ = tree._seen(conditions, showers)
    for splits, networks, early in (
        (tree.ring_splits, tree.rings, None), (tree.cell_splits, tree.cells, False), (tree.cell_splits, tree.early, True)
    ):  # fmt: skip
        taught = splits.observed(state, about, tree.axis.directed, early=early).rows
        if not drawn[networks]:  # all layers of the odd mesh are first layers, and no cells are
            assert len(taught.split) == 0
            continue
        names = ("split", "hits", "energy", "x")
        seen = [torch.cat([getattr(rows, name) for rows in drawn[networks]]) for name in names]
        # A split has the same showers in the same order in both.
        order, wanted = (torch.sort(split, stable=True).indices for split in (seen[0], taught.split))
        assert torch.equal(seen[0][order], taught.split[wanted])
        assert torch.equal(seen[1][order], taught.hits[wanted])
        assert (seen[2][order] / taught.energy[wanted] - 1).abs().max() < 1e-5
        assert (seen[3][order] - taught.x[wanted]).abs().max() < 1e-4
    assert torch.isfinite(sum(tree.log_prob(conditions, showers).values())).all()


@pytest.mark.parametrize("geometry", [ODD, load_geometry("siw_demo")], ids=lambda g: g.name)
def test_showers_are_physical(geometry: Geometry) -> None:
    tree = build(geometry)
    conditions, noise, showers = draw(tree, 300)
    hits, energy = tree.totals.draw(conditions[:, 0], tree.encoder(conditions), tree.uniform(noise)[0])
    assert torch.equal((showers > 0).sum(1).float(), hits)
    assert (showers.sum(1) / energy - 1).abs().max() < 1e-5
    assert showers[showers > 0].min() >= THRESHOLD
    assert (showers >= 0).all()
    assert len(torch.unique(hits)) > 5


@pytest.mark.parametrize("width", [64, 48])
def test_a_shower_is_the_same_to_the_bit_in_any_batch(width: int) -> None:
    tree = build(load_geometry("siw_demo"), width=width)
    conditions, noise, showers = draw(tree, 20)
    with torch.inference_mode():
        for size in (1, 3, 7):
            pieces = [tree(c, z) for c, z in zip(conditions.split(size), noise.split(size), strict=True)]
            assert torch.equal(torch.cat(pieces), showers)
        order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
        assert torch.equal(tree(conditions[order], noise[order]), showers[order])


def test_showers_without_energy_come_as_often_as_the_gate_says() -> None:
    tree = build(ODD)
    tree.totals.any_empty.fill_(1.0)
    tree.totals.gate[-1].bias.fill_(-1.0)
    conditions, noise, _ = draw(tree, 4000)
    conditions[:] = 50.0
    with torch.inference_mode():
        showers = tree(conditions, noise)
    p = tree.log_prob(conditions[:1], torch.zeros(1, ODD.n_voxels))["totals"].exp()
    empty = (showers.sum(1) == 0).float().mean()
    assert float(empty) == pytest.approx(float(p), abs=4 * math.sqrt(float(p) / 4000))
    tree.totals.any_empty.fill_(0.0)
    with torch.inference_mode():
        assert (tree(conditions, noise).sum(1) > 0).all()


@pytest.mark.parametrize(
    "energies", [np.geomspace(256, 4.2e6, 15).repeat(40), np.geomspace(1e3, 1e5, 1000), [65e3] * 50]
)
def test_trends_of_continuous_and_discrete_spectra(energies: np.ndarray) -> None:
    x = np.log(np.asarray(energies))
    rng = np.random.default_rng(0)
    spread = 0.3 * np.exp(-(x - 6.9) / 5)
    trend = Trend()
    trend.fit(x, 0.8 * x + 0.02 * x**2 + spread * rng.normal(size=len(x)))
    mean, found = trend(torch.from_numpy(x).float())
    assert np.abs(mean.numpy() - 0.8 * x - 0.02 * x**2).max() < 0.12
    assert np.abs(found.numpy() / spread - 1).max() < 0.5


def test_each_particle_has_trends_of_its_own_and_a_rare_one_those_of_all() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(7, 11, 2000)
    kind = np.where(np.arange(2000) < 3, 2, np.arange(2000) % 2)  # three showers of the third, none of the fourth
    kinds = np.eye(4)[kind]
    trend = Trend(4)
    trend.fit(x, 0.8 * x - 2 * (kind == 1) + np.where(kind == 1, 0.4, 0.1) * rng.normal(size=2000), kinds)
    at = torch.full((4,), 9.0)
    mean, spread = trend(at, torch.eye(4))
    assert mean.numpy() == pytest.approx([7.2, 5.2, 6.2, 6.2], abs=0.15)
    assert spread[:2].numpy() == pytest.approx([0.1, 0.4], rel=0.3)
    totals = Totals(100, 4, threshold=THRESHOLD, n_kinds=4)
    totals.fit(np.exp(x), np.full(2000, 5.0), np.exp(x) * np.where(kind == 1, 0.2, 0.6), kinds)
    assert totals.mean_response.numpy() == pytest.approx([0.6, 0.2, 0.6, 0.4], abs=0.01)
    assert all(bool(torch.isfinite(value).all()) for value in totals.state_dict().values())
