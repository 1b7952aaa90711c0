"""Energies of the channels of a detector: layers, or the five sums of a two-dimensional response."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.validation.metrics.metric import SampleMetric
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.wasserstein import distances

if TYPE_CHECKING:
    from caloforge.validation.metrics.sample import Sample

FloatArray = NDArray[np.float64]


def checkerboard_channels(responses: NDArray[np.floating]) -> FloatArray:
    """Return the five channels of ALICE's zero-degree calorimeter, (N, 5).

    Every second cell, as on a checkerboard, feeds the fifth channel; the others feed one channel for
    each quadrant (arXiv:2507.18811). The channels sum to the whole response.

    Args:
        responses: (N, rows, columns), any unit.
    """
    rows, columns = responses.shape[1:]
    row, column = np.ogrid[:rows, :columns]
    quadrant = 2 * (row >= rows // 2) + (column >= columns // 2)
    channel = np.where((row + column) % 2 == 0, quadrant, 4).ravel()
    masks = np.equal.outer(channel, np.arange(5)).astype(np.float64)  # (cells, 5)
    sums: FloatArray = responses.reshape(len(responses), -1).astype(np.float64) @ masks
    return sums


def channel_wasserstein(reference: FloatArray, generated: FloatArray) -> Result:
    """Return the mean over channels of the Wasserstein-1 distance, in the channels' own unit.

    That is the figure of the papers on the zero-degree calorimeter: no channel is scaled, so that
    those with most energy weigh most.

    Args:
        reference: (N, channels).
        generated: as many values.

    Returns:
        The error takes the channels as fully correlated, an upper bound.
    """
    distance, error = distances(reference, generated)
    return Result(float(distance.mean()), float(error.mean()), n=len(reference))


def _of_samples(reference: Sample, generated: Sample, seed: int) -> dict[str, Result]:
    del seed
    return {"channel_wasserstein": channel_wasserstein(reference.channels, generated.channels)}


CHANNEL_WASSERSTEIN = SampleMetric({"channel_wasserstein": "Wasserstein-1 of channels (MeV)"}, _of_samples)
