"""How far generated quantities are from those of the batch, whether or not they belong together row by row."""

from __future__ import annotations

from torch import Tensor


def squared_distance(generated: Tensor, true: Tensor, *, paired: bool) -> Tensor:
    """Return (), the mean squared distance of quantities (B, F) of generated and of true showers.

    Paired rows are compared one with one. Of independent draws only the distributions may be compared, column
    by column: the rows in rising order, which gives the squared Wasserstein-2 distance of two equal samples
    (Peyre and Cuturi, arXiv:1803.00567, remark 2.28).
    """
    if not paired:
        generated, true = generated.sort(0).values, true.sort(0).values
    return (generated - true).square().sum(1).mean()
