"""Which showers of a file can be used, and what was wrong with the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import InputError
from caloforge.geometry import Geometry
from caloforge.preprocessing.units import LEAST_KEPT, MOST_BELOW, wrong_units
from caloforge.progress import Progress
from caloforge.showers import Conditions, VoxelArray, cut


class ReadShowers(Protocol):
    """Showers that can be read once more, chunk by chunk."""

    @property
    def geometry(self) -> Geometry:
        """Their mesh."""

    @property
    def threshold(self) -> float | None:
        """Energy in MeV below which voxels were set to 0, if that is known."""

    def __len__(self) -> int:
        """Return their number."""

    def pairs(self) -> Iterator[tuple[Conditions, VoxelArray]]:
        """Yield conditions (n) and voxels (n, V) in MeV."""


@dataclass(frozen=True)
class Quality:
    """Result of one pass over a shower file.

    Attributes:
        good: (N,) whether a shower can be used.
        conditions: of all showers.
        counts: how many showers were dropped, per reason.
        occupancy: mean share of voxels at or above the threshold in good showers.
        response: mean and standard deviation of E_tot / E_inc of good showers.
        phi_symmetric: whether the energy-weighted direction in alpha averages to 0.
        total: (N,) energy of each shower in MeV before the threshold, NaN where a voxel is no energy.
        stated: MeV; threshold at which the file says it was cut, if it does.
        below: share of the voxels with energy that are under the threshold at which the file says it was cut.
        kept: share of the energy that is left above the threshold.
    """

    good: NDArray[np.bool_]
    conditions: Conditions
    counts: dict[str, int]
    occupancy: float
    response: tuple[float, float]
    phi_symmetric: bool
    total: NDArray[np.float64]
    stated: float | None
    below: float
    kept: float

    def markdown(self) -> str:
        """Return the data-quality report as Markdown."""
        n = len(self.good)
        rows = [f"| {reason} | {count} | {count / n:.2%} |" for reason, count in self.counts.items()]
        return "\n".join(
            [
                "# Data quality",
                "",
                (
                    f"{int(self.good.sum())} of {n} showers are good; mean occupancy {self.occupancy:.1%}, "
                    f"response E_tot/E_inc {self.response[0]:.4f} ± {self.response[1]:.4f} (standard deviation), "
                    f"{'symmetric' if self.phi_symmetric else 'not symmetric'} in alpha."
                ),
                "",
                "| dropped because | showers | share |",
                "|---|---|---|",
                *rows,
                "",
            ]
        )


def check_quality(showers: ReadShowers, *, threshold: float, max_response: float) -> Quality:
    """Look at every shower once, in chunks.

    Args:
        showers: of a file, or of a reader.
        threshold: MeV; voxels under it count as 0.
        max_response: largest possible E_tot / E_inc.
    """
    try:
        stated = showers.threshold
    except InputError:  # what it says is no energy, and another threshold was given
        stated = None
    good = np.zeros(len(showers), bool)
    counts = dict.fromkeys(("NaN or infinite energy", "negative energy", "no energy", "more energy than possible"), 0)
    total, before = np.zeros(len(showers)), np.full(len(showers), np.nan)
    hits = filled_voxels = below = 0
    direction = _Direction(showers.geometry)
    progress = Progress("checking showers", len(showers), unit="shower")
    start = 0
    asked = []
    for conditions, chunk in showers.pairs():
        asked.append(conditions)
        rows = slice(start, start + len(chunk))
        start = rows.stop
        values, finite, positive, before[rows] = _energies(chunk)
        here = int(np.count_nonzero(values > 0))
        filled_voxels += here
        if stated is not None:  # float32 of a file may round it down
            below += _between(values, here, stated * (1 - 1e-6))
        if positive.all() and not _between(values, here, threshold):
            total[rows] = np.nan_to_num(before[rows])
        else:
            values = cut(values, threshold)
            total[rows] = values.sum(1, dtype=np.float64)
        possible = total[rows] <= max_response * conditions.incident_energy
        filled = total[rows] > 0
        reasons = np.select([~finite, ~positive, ~filled, ~possible], [1, 2, 3, 4], 0)
        for number, reason in enumerate(counts, 1):
            counts[reason] += int((reasons == number).sum())
        good[rows] = reasons == 0
        kept = values if good[rows].all() else values[good[rows]]
        hits += int(np.count_nonzero(kept > 0))
        direction.add(kept)
        progress.update(start)
    conditions = Conditions.joined(asked)
    response = total[good] / conditions.incident_energy[good]
    n_good = int(good.sum())
    return Quality(
        good=good,
        conditions=conditions,
        counts=counts,
        occupancy=hits / max(1, n_good * showers.geometry.n_voxels),
        response=(float(response.mean()), float(response.std())) if n_good else (0.0, 0.0),
        phi_symmetric=direction.is_symmetric and not {"theta", "phi"} & {*conditions.names},
        total=before,
        stated=stated,
        below=below / max(1, filled_voxels),
        kept=float(total[np.isfinite(before)].sum() / max(np.nansum(before), 1e-300)),
    )


def _energies(
    chunk: VoxelArray,
) -> tuple[VoxelArray, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]:
    """Look at some showers.

    Returns:
        Voxels (n, V) with 0 for what is no number; for each shower whether all are numbers, whether none is negative,
        and their sum, NaN where that is no energy.
    """
    sums = chunk.sum(1, dtype=np.float64)
    if np.isfinite(sums).all() and chunk.min(initial=0) >= 0:  # as nearly all chunks are
        alright = np.ones(len(chunk), bool)
        return chunk, alright, alright, sums
    numbers = np.isfinite(chunk)
    finite: NDArray[np.bool_] = np.asarray(numbers.all(axis=1))
    values = np.where(numbers, chunk, np.float32(0))
    positive: NDArray[np.bool_] = np.asarray((values >= 0).all(axis=1))
    return values, finite, positive, np.where(finite & positive, values.sum(1, dtype=np.float64), np.nan)


def _between(values: VoxelArray, above_zero: int, limit: float) -> int:
    """Return how many voxels are above 0 and below a limit, ``above_zero`` of them being above 0."""
    return int(np.count_nonzero(values < limit)) - (values.size - above_zero)


def unit_faults(quality: Quality, threshold: float, *, least_response: float) -> Iterator[str]:
    """Yield why energies cannot be in MeV.

    Args:
        quality: of the sample.
        threshold: MeV, at which it was checked.
        least_response: least possible mean E_tot / E_inc.
    """
    known = np.isfinite(quality.total)
    energy = quality.conditions.incident_energy[known]
    if why := wrong_units(energy, quality.total[known], least_response=least_response):
        yield why
    if quality.below > MOST_BELOW:
        yield (
            f"the file says that voxels under {quality.stated:g} MeV are 0, but {quality.below:.0%} of "
            "its voxels with energy are: are they in GeV? MeV are expected"
        )
    # Where no shower has energy, the counts of what was dropped say it.
    if quality.total[known].any() and quality.kept < LEAST_KEPT:
        yield (
            f"only {quality.kept:.1%} of the energy is in voxels above the threshold of {threshold:g} MeV: "
            "are the voxels in GeV? MeV are expected; or set a lower threshold"
        )


class _Direction:
    """Mean over the showers of what a symmetric sample has none of, layer by layer: its energy-weighted asymmetries."""

    def __init__(self, geometry: Geometry) -> None:
        self._possible = geometry.is_symmetric
        self._places = [geometry.layer_slices[layer] for layer in geometry.transverse_layers]
        self._weights = np.insert(geometry.asymmetries, 0, 1.0, axis=1).astype(np.float32)  # (V, 1 + K)
        self._waves = self._weights.shape[1] - 1
        self._n = self._sum = self._square = np.zeros(self._waves * len(self._places))

    def add(self, voxels: NDArray[np.float32]) -> None:
        if not self._possible or not self._places:
            return
        sums = np.stack([voxels[:, place] @ self._weights[place] for place in self._places], axis=1)
        energy, *waves = np.moveaxis(sums, 2, 0)  # (n, L) each
        filled = np.tile(energy > 0, self._waves)
        mean = np.concatenate(waves, 1) / np.maximum(np.tile(energy, self._waves), 1e-20)
        self._n = self._n + filled.sum(0)
        self._sum = self._sum + mean.sum(0, where=filled)
        self._square = self._square + (mean**2).sum(0, where=filled)

    @property
    def is_symmetric(self) -> bool:
        """No layer's mean direction is more than 5 standard errors from 0."""
        n = np.maximum(self._n, 1)
        mean = self._sum / n
        error = np.sqrt(np.maximum(self._square / n - mean**2, 1e-12) / n)
        return self._possible and bool((np.abs(mean) < 5 * error + 1e-9).all())
