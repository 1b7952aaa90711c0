"""A coding in which every voxel of a layer with given hits and energy is a standard normal number."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from caloforge.draws import Draws
from caloforge.geometry import Geometry
from caloforge.preprocessing.voxel_steps import NOISE_GAP, LayerSums, ShowerContext, StepFit, VoxelStep

HIT_KNOTS = 8
"""Numbers of hits in a layer between which the chance of a hit is interpolated, in the logarithm."""

ENERGY_KNOTS = 6
"""Energies per hit of a layer between which the hit spectrum is interpolated, in the logarithm."""

Z_KNOTS = 25
Z_MAX = 7.2
"""The hit spectrum is kept at logits -Z_MAX .. Z_MAX of the cumulated probability."""

ROUNDED = 3
"""Decimals of a mm to which the distances of voxels from the axis are compared."""

SAMPLE = 5000
"""Showers that the tables are made of."""

ENOUGH = 30.0
"""Hits under which a spectrum is filled up with those of its ring, then of its layer."""

FEW = 0.3
"""Showers that count as few for a chance of a hit."""

LEAST_SHARE = 1e-4
LEAST_FREE = 1e-6
"""Of a hit over the threshold, in thresholds: the least that is told from none."""

LEAST_SLOPE = 0.02
"""Of log(v / t - 1) over the logit: an energy that many voxels share must not make the coding flat."""

UP = 0.5
"""Of a gap between codes. Measured on the codes of the demo's showers, each voxel's shuffled over the showers: between 0.1
and 1 MeV there are then as many hits as in Geant4 within 4 % (with 0: 18 % more, with 1.5: 13 % fewer)."""

A, B = 1.5976, 0.070566
"""logit of the normal distribution function: A x + B x^3, within 1.4e-4 of the probability.

Source: Page, Approximations to the cumulative normal function, Applied Statistics 26 (1977) 75; it and its inverse
are elementary, so the way back can be in an ONNX graph.
"""


def normal_to_logit(x: Tensor) -> Tensor:
    """Map a standard normal number to the logit of its cumulated probability."""
    return x * (A + B * x * x)


def logit_to_normal(logit: Tensor) -> Tensor:
    """Undo :func:`normal_to_logit`: the real root of the cubic."""
    scale = 2 * (A / (3 * B)) ** 0.5
    x: Tensor = scale * torch.sinh(torch.asinh(3 * logit / (A * scale)) / 3)
    return x


class HitQuantile(VoxelStep):
    r"""Hit or not, and how much, as one standard normal number.

    In a layer with n hits and energy E let p be the chance that a voxel of a ring is hit, and F the distribution
    of the energy of its hits; both are read off tables that the training showers filled, over n and E / n. A zero is a
    uniform number in [0, 1 - p), a hit is 1 - p + p F(v), and the normal quantile of that is the code. A network
    that draws independent normal numbers has the right occupancy and the right spectrum in every ring already: all
    it has to learn is what the voxels of a shower have to do with each other. No energy has a pile-up of codes, so a
    small error of a code is a small error of an energy.

    Back, the n voxels of a layer with the least odds to be hotter than they are, over their odds to be hit, are its
    hits. If there are more or fewer over the edge, the odds of all are changed until it is at the first that is no hit.
    """

    name: ClassVar[str] = "quantile"
    share: Tensor
    spectrum: Tensor
    low: Tensor
    step: Tensor
    ring_of_voxel: Tensor
    capacity: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.sums = LayerSums(geometry)
        rings, first = [], 0
        for place in geometry.layer_slices:
            # Voxels of a layer at one distance from the axis are a ring.
            _, ring = np.unique(geometry.r_of_voxel[place].round(ROUNDED), return_inverse=True)
            rings.append(first + torch.as_tensor(ring))
            first += int(ring.max()) + 1
        self.register_buffer("ring_of_voxel", torch.cat(rings), persistent=False)
        capacity = torch.tensor(geometry.layer_sizes, dtype=torch.float32)
        self.register_buffer("capacity", capacity, persistent=False)
        knots = torch.arange(HIT_KNOTS) / (HIT_KNOTS - 1)
        layer_of_ring = torch.empty(first, dtype=torch.long)
        layer_of_ring[self.ring_of_voxel] = self.sums.layer_of_voxel
        # As if hits were anywhere, with an exponential spectrum, until something is known.
        self.register_buffer("share", capacity[layer_of_ring, None] ** (knots - 1))
        self.register_buffer("spectrum", torch.linspace(-Z_MAX, Z_MAX, Z_KNOTS).expand(first, ENERGY_KNOTS, -1).clone())
        self.register_buffer("low", torch.zeros(len(capacity)))
        self.register_buffer("step", torch.ones(len(capacity)))
        self.layer_of_ring = layer_of_ring

    def fit(self) -> QuantileFit:
        """Return what fills the tables."""
        return QuantileFit(self)

    def config(self) -> dict[str, Any]:
        """Return name and sizes."""
        return {"name": self.name, "rings": len(self.share), "hit_knots": HIT_KNOTS, "energy_knots": ENERGY_KNOTS}

    def hit_place(self, hits: Tensor) -> Tensor:
        """Return where numbers of hits (B, L) lie between the knots, 0 .. HIT_KNOTS - 1."""
        return (HIT_KNOTS - 1) * torch.log(hits.clamp_min(1)) / torch.log(self.capacity.clamp_min(2))

    def energy_place(self, energy: Tensor, hits: Tensor, threshold: float) -> Tensor:
        """Return where energies per hit lie between the knots, 0 .. ENERGY_KNOTS - 1; (B, L) MeV and hits."""
        return (_log_energy_per_hit(energy, hits, threshold) - self.low) / self.step

    def encode(self, x: Tensor, context: ShowerContext, draws: Draws) -> Tensor:
        """MeV to a standard normal number."""
        share = self._share(context)
        uniform = draws.uniform(*x.shape, dtype=x.dtype).clamp(1e-6, 1 - NOISE_GAP)
        code = torch.logit(uniform * (1 - share))
        row, voxel = (x > 0).nonzero(as_tuple=True)
        p = share[row, voxel]
        place, part = self._energy_knot(context)
        at = self.ring_of_voxel[voxel] * ENERGY_KNOTS + place[row, voxel]
        table, part = self.spectrum.flatten(0, 1), part[row, voxel, None]
        quantiles = table[at] * (1 - part) + table[at + 1] * part  # (hits, Z_KNOTS)
        free = torch.log((x[row, voxel] / context.threshold - 1).clamp_min(LEAST_FREE))
        z = _logits(free, quantiles)
        code[row, voxel] = torch.logaddexp(z, torch.log1p(-p)) - torch.log(p)
        return logit_to_normal(code)

    def decode(self, x: Tensor, context: ShowerContext) -> Tensor:
        """Standard normal numbers to MeV; as many voxels of each layer are hit as the context says."""
        chance = torch.logit(self._share(context))
        code = normal_to_logit(x.clamp(-30, 30))
        hit, edge = self._hits(-code - chance, context.layer_hits)
        chance = chance + self.sums.spread(edge)
        # Undo of encode: exp(code) = (exp(z) + 1 - p) / p.
        z = code - F.softplus(-chance) + torch.log(1 - torch.exp(-(code + chance).clamp_min(1e-6)))
        place = ((z + Z_MAX) / _Z_STEP).clamp(-1e4, 1e4)
        i = _knot(place.detach(), Z_KNOTS)
        row, part = self._energy_knot(context)
        at = (self.ring_of_voxel * ENERGY_KNOTS + row) * Z_KNOTS + i
        table = self.spectrum.flatten()
        lower, upper = (table[at + k] * (1 - part) + table[at + Z_KNOTS + k] * part for k in (0, 1))
        free = torch.exp((lower + (upper - lower) * (place - i)).clamp(-14, 40))
        return torch.where(hit, context.threshold * (1 + free), torch.zeros_like(x))

    def _share(self, context: ShowerContext) -> Tensor:
        """Return the chance of a hit of each voxel, (B, V)."""
        place = self.hit_place(context.layer_hits)
        i = _knot(place, HIT_KNOTS)
        part = self.sums.spread(place - i)
        at = self.ring_of_voxel * HIT_KNOTS + self.sums.spread(i)
        table = self.share.flatten()
        return (table[at] * (1 - part) + table[at + 1] * part).clamp(LEAST_SHARE, 1 - LEAST_SHARE)

    def _energy_knot(self, context: ShowerContext) -> tuple[Tensor, Tensor]:
        """Return the knot under the layer's energy per hit, (B, V), and how far it is to the next, (B, V) in [0, 1]."""
        place = self.energy_place(context.layer_energy, context.layer_hits, context.threshold)
        place = place.clamp(0, ENERGY_KNOTS - 1)
        i = _knot(place, ENERGY_KNOTS)
        return self.sums.spread(i), self.sums.spread(place - i)

    def _hits(self, odds: Tensor, hits: Tensor) -> tuple[Tensor, Tensor]:
        """Return which voxels are hit, (B, V), and where the edge of each layer is, (B, L).

        Args:
            odds: (B, V) where a voxel is: log-odds to be hotter less those to be hit; under 0 it would be hit.
            hits: (B, L) number of hits.
        """
        table = self.sums.by_layer(odds, empty=1e9)
        rising, order = torch.sort(table, dim=2)
        chosen = torch.arange(table.shape[2], device=odds.device) < hits[:, :, None]
        hit = torch.zeros_like(table).scatter(2, order, chosen.to(table.dtype))
        last = (hits.long() - 1).clamp(0, table.shape[2] - 1)[:, :, None]
        least = rising.gather(2, last)[:, :, 0]
        following = rising.gather(2, (last + 1).clamp_max(table.shape[2] - 1))[:, :, 0]
        # Of independent numbers those under the n + 1st are uniform there: an edge at it leaves the spectrum as it is. Only if
        # there are too few hits the last is known to be near the edge; half a gap more makes up for that on average.
        edge = following + UP * torch.where(least >= 0, following - least, torch.zeros_like(least))
        edge = torch.where(hits < self.capacity, edge, torch.full_like(least, 1e9))  # a full layer has no next one
        inside = (least < 0) & (edge >= 0)
        return self.sums.from_layers(hit) > 0, torch.where(inside, torch.zeros_like(least), edge)


_Z_STEP = 2 * Z_MAX / (Z_KNOTS - 1)


def _knot(place: Tensor, n: int) -> Tensor:
    """Return the knot under each place, 0 .. n - 2; a place that is no number has one, too, and stays one that is none."""
    return place.floor().long().clamp(0, n - 2)


def _log_energy_per_hit(energy: Tensor, hits: Tensor, threshold: float) -> Tensor:
    return torch.log((energy / (hits.clamp_min(1) * threshold)).clamp_min(1))


class QuantileFit(StepFit):
    """Fill the tables from some of the showers, evenly spread over all: no more than memory holds."""

    def __init__(self, step: HitQuantile) -> None:
        """Start empty."""
        self._step, self._seen, self._every, self._threshold = step, 0, 1, 1.0
        self._kept: list[_Some] = []

    def update(self, voxels: Tensor, context: ShowerContext, draws: Draws) -> None:
        """Add showers (B, V) in MeV."""
        self._threshold = context.threshold
        number = self._seen + torch.arange(len(voxels))
        self._seen += len(voxels)
        shower, voxel = (voxels > 0).nonzero(as_tuple=True)
        free = torch.log((voxels[shower, voxel] / context.threshold - 1).clamp_min(LEAST_FREE))
        some = _Some(number, context.layer_energy, context.layer_hits, shower, voxel, free)
        self._kept.append(some.every(self._every))
        while sum(len(kept.number) for kept in self._kept) > SAMPLE:
            self._every *= 2
            self._kept = [kept.every(self._every) for kept in self._kept]

    def finish(self) -> None:
        """Set the tables."""
        step = self._step
        layer_energy, layer_hits = (torch.cat([getattr(k, name) for k in self._kept]) for name in ("energy", "hits"))
        firsts = torch.tensor([len(kept.number) for kept in self._kept]).cumsum(0).roll(1)
        firsts[0] = 0
        shower = torch.cat([kept.shower + first for kept, first in zip(self._kept, firsts, strict=True)])
        ring = step.ring_of_voxel[torch.cat([kept.voxel for kept in self._kept])]
        active = layer_hits > 0
        self._fill_shares(shower, ring, layer_hits, active)
        log_energy = _log_energy_per_hit(layer_energy, layer_hits, self._threshold)
        for layer in range(active.shape[1]):
            seen = log_energy[active[:, layer], layer]
            if len(seen):
                low, high = torch.quantile(seen, torch.tensor([0.005, 0.995])).tolist()
                step.low[layer], step.step[layer] = low, max(high - low, 0.1) / (ENERGY_KNOTS - 1)
        place = ((log_energy - step.low) / step.step).clamp(0, ENERGY_KNOTS - 1)
        self._fill_spectra(ring, torch.cat([kept.free for kept in self._kept]), place[shower, step.layer_of_ring[ring]])

    def _fill_shares(self, shower: Tensor, ring: Tensor, layer_hits: Tensor, active: Tensor) -> None:
        step = self._step
        n_rings = len(step.share)
        in_ring = torch.bincount(shower * n_rings + ring, minlength=len(active) * n_rings).view(-1, n_rings).float()
        cells = torch.bincount(step.ring_of_voxel).double()
        share = in_ring.double() / cells
        weights = (_hats(step.hit_place(layer_hits), HIT_KNOTS) * active[:, :, None]).double()  # (S, L, K)
        square = torch.einsum("slk,slm->lkm", weights, weights)[step.layer_of_ring]
        found = torch.einsum("srk,sr->rk", weights[:, step.layer_of_ring], share)
        # The broken line through the shares; where little is known of a knot, that of hits that are anywhere.
        few = torch.eye(HIT_KNOTS, dtype=torch.double) * FEW
        line = torch.linalg.solve(square + few, found + FEW * step.share.double())
        step.share.copy_(line.clamp(LEAST_SHARE, 1))
        step.share[:, -1] = 1  # a full layer

    def _fill_spectra(self, ring: Tensor, free: Tensor, place: Tensor) -> None:
        step = self._step
        wanted = torch.sigmoid(torch.linspace(-Z_MAX, Z_MAX, Z_KNOTS))
        by_ring = torch.argsort(ring)
        sizes = torch.bincount(ring, minlength=len(step.spectrum)).tolist()
        owns = torch.split(by_ring, sizes)
        for i, own in enumerate(owns):
            if len(own) < ENOUGH:
                own = torch.cat(
                    [owns[k] for k in (step.layer_of_ring == step.layer_of_ring[i]).nonzero()[:, 0].tolist()]
                )
            if not len(own):
                continue
            at, found = place[own], free[own]
            weight = _hats(at, ENERGY_KNOTS)
            weight = weight + ((ENOUGH - weight.sum(0)).clamp_min(0) + 1e-3) / len(own)
            order = found.argsort()
            at, found, weight = at[order], found[order], weight[order].T
            table = _rising(_quantiles(found, weight, wanted))
            lower = at.floor().clamp(0, ENERGY_KNOTS - 2).long()
            part = (at - lower)[:, None]
            # A knot takes hits from both sides, which makes its spectrum too wide; what is left of that is seen in the
            # logits that its hits would be given. At last those of all hits of the ring must be right.
            for told in (weight, weight, torch.ones_like(weight)):
                z = _logits(found, table[lower] * (1 - part) + table[lower + 1] * part)
                order = z.argsort()
                table = _rising(_energies(_quantiles(z[order], told[:, order], wanted), table))
            step.spectrum[i] = table


def _logits(free: Tensor, quantiles: Tensor) -> Tensor:
    """Return the logits (H,) of energies log(v / t - 1), (H,), in spectra (H, Z_KNOTS)."""
    i = ((quantiles <= free[:, None]).sum(1) - 1).clamp(0, Z_KNOTS - 2)
    lower, upper = (quantiles.gather(1, (i + k)[:, None])[:, 0] for k in (0, 1))
    return (i + (free - lower) / (upper - lower)) * _Z_STEP - Z_MAX


def _energies(z: Tensor, quantiles: Tensor) -> Tensor:
    """Return log(v / t - 1) at logits (K, Q) of spectra (K, Z_KNOTS)."""
    place = (z + Z_MAX) / _Z_STEP
    i = place.floor().clamp(0, Z_KNOTS - 2).long()
    lower, upper = (quantiles.gather(1, i + k) for k in (0, 1))
    return lower + (upper - lower) * (place - i)


class _Some(NamedTuple):
    """Some showers.

    Attributes:
        number: (S,) their places in the sample.
        energy: (S, L) MeV, of their layers.
        hits: (S, L) of their layers.
        shower: (H,) row 0 .. S - 1 of each hit.
        voxel: (H,) where each hit is.
        free: (H,) log(v / t - 1).
    """

    number: Tensor
    energy: Tensor
    hits: Tensor
    shower: Tensor
    voxel: Tensor
    free: Tensor

    def every(self, n: int) -> _Some:
        """Keep the showers whose number is a multiple of n."""
        keep = self.number % n == 0
        hit = keep[self.shower]
        place = keep.long().cumsum(0) - 1
        return _Some(
            self.number[keep], self.energy[keep], self.hits[keep],
            place[self.shower[hit]], self.voxel[hit], self.free[hit],
        )  # fmt: skip


def _hats(place: Tensor, n: int) -> Tensor:
    """Return how much a place between 0 and n - 1 belongs to each knot, (..., n); they sum to 1."""
    return (1 - (place[..., None] - torch.arange(n)).abs()).clamp_min(0)


def _quantiles(values: Tensor, weights: Tensor, wanted: Tensor) -> Tensor:
    """Return the quantiles (K, Q) of rising values (N,) for each of K rows of weights (K, N)."""
    cumulated = (weights.double().cumsum(1) - weights.double() / 2).contiguous()
    aim = wanted.double() * weights.double().sum(1, keepdim=True)
    upper = torch.searchsorted(cumulated, aim).clamp(max=len(values) - 1)
    lower = (upper - 1).clamp_min(0)
    below, above = cumulated.gather(1, lower), cumulated.gather(1, upper)
    part = ((aim - below) / (above - below).clamp_min(1e-12)).clamp(0, 1).to(values.dtype)
    return values[lower] * (1 - part) + values[upper] * part


def _rising(quantiles: Tensor) -> Tensor:
    """Make (K, Q) rise everywhere, at the ends as far as tails do, and keep their middle."""
    least = torch.full((Z_KNOTS - 1,), LEAST_SLOPE)
    # Under any other energy there are about as many hits for each step in v - t: a slope of 1.
    least[0], least[-1] = 1.0, 0.2
    steps = torch.maximum(quantiles.diff(dim=1), least * _Z_STEP)
    risen = torch.cat([torch.zeros_like(steps[:, :1]), steps.cumsum(1)], 1)
    middle = Z_KNOTS // 2
    return risen + (quantiles[:, middle] - risen[:, middle])[:, None]
