"""Read a sample of showers once and keep the sums that all observables are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import InputError
from caloforge.geometry import CellGeometry, CylindricalGeometry, Geometry
from caloforge.showers import Showers, VoxelArray, cut
from caloforge.validation.observables.pairs import Pairs, pairs
from caloforge.validation.observables.threads import one_blas_thread

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

AXES = ("eta", "phi", "r")
"""The transverse coordinates, all in mm: eta = r cos(alpha) and phi = r sin(alpha)."""

SPECTRUM_EDGES = np.logspace(-6, 6, 121)
"""Bins of the voxel spectrum in MeV, ten a decade; what lies outside counts in the outermost ones."""

N_GROUPS = 3
"""Groups of layers with a voxel spectrum of their own."""

ROUNDING = 1e-12
"""Of a variance as a share of the mean square."""

EPSILON = 1e-16
"""Added to energies that are divided by, as CaloChallenge does: an empty layer has its centre at 0."""


@dataclass(frozen=True)
class Profile:
    """A mean over showers in each bin, and the error of that mean.

    Attributes:
        edges: (B + 1,) bin edges.
        mean: (B,) or (L, B).
        error: the same shape; standard deviation over showers divided by sqrt(N).
    """

    edges: FloatArray
    mean: FloatArray
    error: FloatArray


@dataclass(frozen=True)
class Summary:
    """What is kept of N showers: some numbers per shower and layer, and means over showers.

    Attributes:
        geometry: the mesh, with L layers that have voxels.
        threshold: voxels below it (MeV) were set to 0 before anything else.
        incident_energy: (N,) MeV.
        layer_energy: (N, L) MeV.
        layer_hits: (N, L) number of voxels above the threshold.
        hottest_voxel: (N,) largest voxel energy in MeV.
        centre: for eta, phi and r the (N, L) centre of energy in mm, 0 for an empty layer.
        width: for eta, phi and r the (N, L) energy-weighted standard deviation in mm.
        ring_energy: (N, B) MeV between the common r edges; (N, 0) for cells.
        lateral: mean energy per area against r, MeV/mm^2 (edges in mm). Rings of unlike layers are
            spread over the common r edges in proportion to area. None for cells.
        image: the same per layer, (L, B). None for cells.
        cell_energy: (2, V) mean energy per area of each cell in MeV/mm^2, and its error; None for rings.
        spectrum: mean number of voxels per shower against voxel energy.
        group_spectra: the same for each group of layers, (G, B); see :func:`layer_groups`.
        pairs: what neighbouring voxels know of each other.
        theta: (N,) polar angle of the incident particle in rad, if the file has it.
        phi: (N,) azimuth in rad, if the file has it.
        particle: (N,) PDG codes, if the file has them.
        expected_centre: (N, 2) where in eta and phi (mm) the shower's centre of energy is expected
            from the angles, once :func:`caloforge.validation.observables.impact.expect_centres` has set it.
    """

    geometry: Geometry
    threshold: float
    incident_energy: FloatArray
    layer_energy: FloatArray
    layer_hits: FloatArray
    hottest_voxel: FloatArray
    centre: dict[str, FloatArray]
    width: dict[str, FloatArray]
    ring_energy: FloatArray
    lateral: Profile | None
    image: Profile | None
    cell_energy: FloatArray | None
    spectrum: Profile
    group_spectra: Profile
    pairs: Pairs
    theta: FloatArray | None = None
    phi: FloatArray | None = None
    particle: IntArray | None = None
    expected_centre: FloatArray | None = None

    def __len__(self) -> int:
        """Return the number of showers."""
        return len(self.incident_energy)

    @property
    def total_energy(self) -> FloatArray:
        """Energy of all voxels, (N,) MeV."""
        total: FloatArray = self.layer_energy.sum(axis=1)
        return total


def summarise(showers: Showers, *, threshold: float = 0.0) -> Summary:
    """Stream through a shower file and return its summary; memory does not grow with N x V.

    Raises:
        InputError: a voxel energy is NaN, infinite or negative.
    """
    conditions = showers.conditions
    with one_blas_thread():
        return summarise_voxels(
            checked_chunks(showers),
            conditions.incident_energy,
            showers.geometry,
            threshold=threshold,
            theta=conditions.theta,
            phi=conditions.phi,
            particle=conditions.particle,
        )


def summarise_voxels(
    chunks: Iterable[VoxelArray],
    incident_energy: FloatArray,
    geometry: Geometry,
    *,
    threshold: float = 0.0,
    theta: FloatArray | None = None,
    phi: FloatArray | None = None,
    particle: IntArray | None = None,
) -> Summary:
    """Return the summary of showers that come in pieces.

    Args:
        chunks: pieces of shape (n, V), MeV, N showers in all.
        incident_energy: (N,) MeV.
        geometry: their mesh.
        threshold: MeV; smaller voxel energies count as 0.
        theta: (N,) polar angle in rad.
        phi: (N,) azimuth in rad.
        particle: (N,) PDG codes.
    """
    r_edges = common_r_edges(geometry)
    shares = _ring_shares(geometry, r_edges)
    weights = _layer_weights(geometry, shares)
    cells = _Moments(geometry.n_voxels) if isinstance(geometry, CellGeometry) else None
    starts = [place.start for place in geometry.layer_slices]
    n_bins = len(SPECTRUM_EDGES) - 1
    sums, hits, hottest, rings, neighbours = [], [], [], [], []
    n_rings = max(0, len(r_edges) - 1)
    lateral, image = _Moments(n_rings), _Moments((geometry.n_layers, n_rings))
    groups = layer_groups(geometry)
    group_of_layer = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    group_of_voxel = group_of_layer[geometry.layer_of_voxel]
    spectrum, group_spectra = _Moments(n_bins), _Moments((len(groups), n_bins))
    for chunk in chunks:
        voxels = cut(chunk, threshold)
        layers = [
            voxels[:, place].astype(np.float64) @ weight
            for place, weight in zip(geometry.layer_slices, weights, strict=True)
        ]
        moments = np.stack(layers, axis=1)  # (n, L, 7 + rings)
        sums.append(moments[:, :, :7].copy())  # a view would keep all of them
        image.add(moments[:, :, 7:])
        rings.append(moments[:, :, 7:].sum(axis=1))
        lateral.add(rings[-1])
        if cells is not None:
            cells.add(voxels.astype(np.float64))
        hottest.append(voxels.max(axis=1).astype(np.float64))
        hits.append(np.add.reduceat(voxels > 0, starts, axis=1, dtype=np.float64))
        neighbours.append(pairs(voxels, geometry, shares))
        counts = _spectra(voxels, group_of_voxel, len(groups))
        group_spectra.add(counts)
        spectrum.add(counts.sum(axis=1))
    energy, first, second = _split_moments(np.concatenate(sums))
    centre = {axis: first[axis] / (energy + EPSILON) for axis in AXES}
    width = {axis: _width(second[axis] / (energy + EPSILON), centre[axis]) for axis in AXES}
    area = np.pi * np.diff(r_edges**2)
    return Summary(
        geometry=geometry,
        threshold=threshold,
        incident_energy=np.asarray(incident_energy, dtype=np.float64),
        layer_energy=energy,
        layer_hits=np.concatenate(hits),
        hottest_voxel=np.concatenate(hottest),
        centre=centre,
        width=width,
        ring_energy=np.concatenate(rings),
        lateral=lateral.profile(r_edges, scale=1 / area) if n_rings else None,
        image=image.profile(r_edges, scale=1 / area) if n_rings else None,
        cell_energy=None if cells is None else np.stack(cells.mean()) / geometry.area_of_voxel,
        spectrum=spectrum.profile(SPECTRUM_EDGES),
        group_spectra=group_spectra.profile(SPECTRUM_EDGES),
        pairs=Pairs.joined(neighbours),
        theta=theta,
        phi=phi,
        particle=particle,
    )


def voxel_histogram(showers: Showers, edges: FloatArray, *, threshold: float = 0.0) -> Profile:
    """Return the mean number of voxels per shower in each bin; what lies outside is dropped.

    The bins are those of ``numpy.histogram``: the last one is closed.
    """
    n_bins = len(edges) - 1
    moments = _Moments(n_bins)
    for chunk in showers.chunks(threshold=threshold):
        hits = np.flatnonzero(chunk > 0)
        row, values = hits // chunk.shape[1], chunk.ravel()[hits]
        place = np.searchsorted(edges, values, side="right") - 1
        place[values == edges[-1]] = n_bins - 1
        inside = (place >= 0) & (place < n_bins)
        moments.add(_count(row[inside], place[inside], len(chunk), n_bins))
    return moments.profile(edges)


def layer_groups(geometry: Geometry) -> list[tuple[int, ...]]:
    """Return the layers of each group that has a voxel spectrum of its own: front, middle and back.

    The groups are three equal parts of the layers in their order; fewer layers are a group each.
    """
    parts = np.array_split(np.arange(geometry.n_layers), min(N_GROUPS, geometry.n_layers))
    return [tuple(part.tolist()) for part in parts]


def layer_range(group: tuple[int, ...]) -> str:
    """Return what a group of layers is called."""
    return f"Layers {group[0]} to {group[-1]}" if len(group) > 1 else f"Layer {group[0]}"


def common_r_edges(geometry: Geometry) -> FloatArray:
    """Return the r edges in mm of all layers together, rising; none of cells."""
    if not isinstance(geometry, CylindricalGeometry):
        return np.empty(0)
    return np.unique(np.concatenate([layer.r_edges for layer in geometry.active_layers]))


def _ring_shares(geometry: Geometry, r_edges: FloatArray) -> list[FloatArray]:
    """Return per layer the (n_r, rings) part of each ring's area that lies in each of the common r bins.

    Of cells it is (cells, 0).
    """
    if not isinstance(geometry, CylindricalGeometry):
        return [np.empty((size, 0)) for size in geometry.layer_sizes]
    shares = []
    for layer in geometry.active_layers:
        edges = np.asarray(layer.r_edges)
        inside = (r_edges[:-1] >= edges[:-1, None]) & (r_edges[1:] <= edges[1:, None])  # (n_r, rings)
        shares.append(inside * np.diff(r_edges**2) / np.diff(edges**2)[:, None])
    return shares


def _layer_weights(geometry: Geometry, ring_shares: list[FloatArray]) -> list[FloatArray]:
    """Return per layer the (voxels, 7 + rings) matrix that takes voxels to sums.

    The first 7 columns are 1, then eta, phi, r and their squares; the others share the energy of
    each ring among the common r bins it covers, by area.
    """
    matrices = []
    axes = np.stack([geometry.eta_of_voxel, geometry.phi_of_voxel, geometry.r_of_voxel], axis=1)
    for place, share in zip(geometry.layer_slices, ring_shares, strict=True):
        x = axes[place]
        matrices.append(np.hstack([np.ones((len(x), 1)), x, x**2, np.tile(share, (len(x) // len(share), 1))]))
    return matrices


def _split_moments(sums: FloatArray) -> tuple[FloatArray, dict[str, FloatArray], dict[str, FloatArray]]:
    first = {axis: sums[:, :, 1 + i] for i, axis in enumerate(AXES)}
    second = {axis: sums[:, :, 4 + i] for i, axis in enumerate(AXES)}
    return np.ascontiguousarray(sums[:, :, 0]), first, second


def _width(square: FloatArray, centre: FloatArray) -> FloatArray:
    """Return standard deviations from mean squares and means.

    The difference of two numbers of which one voxel alone makes both is rounding, not a width: a distance that is
    scaled by the largest width of a reference without any would see the rounding of another sample as infinitely wide.
    """
    variance = square - centre**2
    return _root(np.where(variance > ROUNDING * square, variance, 0.0))


def _root(variance: FloatArray) -> FloatArray:
    return np.sqrt(np.maximum(variance, 0.0))


def _spectra(voxels: VoxelArray, group_of_voxel: IntArray, n_groups: int) -> FloatArray:
    """Count each shower's voxels above 0 in the bins of the spectrum, (n, G, B)."""
    n_bins = len(SPECTRUM_EDGES) - 1
    row, column = divmod(np.flatnonzero(voxels), voxels.shape[1])  # much faster than in two dimensions
    place = np.searchsorted(SPECTRUM_EDGES, voxels[row, column], side="right") - 1
    place = group_of_voxel[column] * n_bins + np.clip(place, 0, n_bins - 1)
    return _count(row, place, len(voxels), n_groups * n_bins).reshape(-1, n_groups, n_bins)


def _count(row: IntArray, place: IntArray, n_rows: int, n_bins: int) -> FloatArray:
    """Return how often each bin occurs in each row, (n_rows, n_bins)."""
    return np.bincount(row * n_bins + place, minlength=n_rows * n_bins).reshape(-1, n_bins).astype(np.float64)


class _Moments:
    """Running sum and sum of squares over showers."""

    def __init__(self, shape: int | tuple[int, ...]) -> None:
        self._n = 0
        self._sum = np.zeros(shape)
        self._squares = np.zeros(shape)

    def add(self, values: FloatArray) -> None:
        self._n += len(values)
        self._sum += values.sum(axis=0)
        self._squares += (values**2).sum(axis=0)

    def mean(self) -> tuple[FloatArray, FloatArray]:
        """Return the mean and its error."""
        mean = self._sum / self._n
        return mean, _root(self._squares / self._n - mean**2) / np.sqrt(self._n)

    def profile(self, edges: FloatArray, *, scale: FloatArray | float = 1.0) -> Profile:
        mean, error = self.mean()
        return Profile(edges=edges, mean=mean * scale, error=error * scale)


def checked_chunks(showers: Showers) -> Iterator[VoxelArray]:
    """Pass the showers' voxels through; a bad one is named by its row in the file."""
    done = 0
    for chunk in showers.chunks():
        wrong = ~(np.isfinite(chunk) & (chunk >= 0))
        if wrong.any():
            i, j = np.argwhere(wrong)[0]
            msg = (
                f"{showers.path}: showers: row {showers.rows[done + i]}, voxel {j} is {chunk[i, j]}; "
                "energies must be finite and not negative"
            )
            raise InputError(msg)
        done += len(chunk)
        yield chunk
