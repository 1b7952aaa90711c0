"""Showers of eight voxels from a distribution that can be drawn from at will: correlated, and half of them zeros.

Two layers of four sectors. One sector of both layers is hot, the others get a few per cent; the deeper layer gets
more at higher energies; every voxel has a log-normal factor of its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.showers import Conditions, write_showers

SECTORS = 4
MESH = CylindricalGeometry("eight", (Layer(0, (0.0, 1.0), SECTORS), Layer(1, (0.0, 1.0), SECTORS)))
THRESHOLD = 50.0
_SHARE = np.array([0.7, 0.05, 0.02, 0.05])  # by distance from the hot sector


def incident_energies(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (n,) MeV, evenly in the logarithm from 1 to 10 GeV."""
    return np.exp(rng.uniform(np.log(1e3), np.log(1e4), n))


def known_showers(
    energy: NDArray[np.float64], rng: np.random.Generator, *, sector: int | None = None
) -> NDArray[np.float32]:
    """Return (n, 8) MeV.

    Args:
        energy: (n,) incident energies, MeV.
        rng: source of randomness.
        sector: the hot one; a random one for each shower without it.
    """
    n = len(energy)
    hot = rng.integers(0, SECTORS, n) if sector is None else np.full(n, sector)
    first = 1 / (1 + energy / 3000 * np.exp(rng.normal(0, 0.7, n)))
    layers = np.stack([first, 1 - first], 1)
    sectors = _SHARE[(np.arange(SECTORS) - hot[:, None]) % SECTORS]
    voxels = 0.8 * energy[:, None, None] * layers[:, :, None] * sectors[:, None, :]
    voxels = (voxels * np.exp(rng.normal(0, 0.4, voxels.shape))).reshape(n, MESH.n_voxels)
    return np.where(voxels < THRESHOLD, 0, voxels).astype(np.float32)


def write_known_showers(path: Path, n: int, *, seed: int, sector: int | None = None) -> Path:
    """Write so many of them to a file."""
    rng = np.random.default_rng(seed)
    energy = incident_energies(n, rng)
    with write_showers(path, MESH, attributes={"energy_threshold": THRESHOLD}, provenance={}) as writer:
        writer.append(Conditions(energy), known_showers(energy, rng, sector=sector))
    return path


def distances(one: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[float, float]:
    """Return how far two equally large samples (N, F) in MeV are from each other.

    Of log(1 + energy / threshold): the Wasserstein-1 distance of the marginals in standard deviations, mean over
    columns; and the mean absolute difference of the correlations of two columns.
    """
    a, b = (np.log1p(sample.astype(np.float64) / THRESHOLD) for sample in (one, other))
    marginals = np.abs(np.sort(a, 0) - np.sort(b, 0)).mean(0) / b.std(0)
    pairs = np.triu_indices(a.shape[1], 1)
    correlations = (np.corrcoef(a.T) - np.corrcoef(b.T))[pairs]
    return float(marginals.mean()), float(np.abs(correlations).mean())
