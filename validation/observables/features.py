"""The CaloChallenge high-level features: what the classifier and the FPD see of a shower."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.validation.observables.per_shower import centre, sparsity, width
from caloforge.validation.observables.summary import Summary


def high_level_features(summary: Summary) -> NDArray[np.float64]:
    """Return the features of CaloChallenge (Krause et al. 2024, arXiv:2410.21611), in its order.

    log10 E_inc; log10(E_layer + 1e-8); centres in eta, phi and widths in eta, phi of the layers with
    more than one alpha bin, over 100 mm; log10(E_tot + 1e-8); sparsity; centre and width in r over
    100 mm. Energies in MeV; an empty layer has log10 energy -8 and centre 0. Where samples have more conditions
    than the energy, as none of the challenge's, these follow: who knows them sees whether a generator heeds them.

    Returns:
        (N, 2 + 4 L + 4 L_alpha): 30 for dataset 1 photons, 46 for pions, 362 for datasets 2 and 3; and
        those of :func:`condition_features`.
    """
    return np.hstack(
        [
            np.log10(summary.incident_energy)[:, None],
            np.log10(summary.layer_energy + 1e-8),
            centre(summary, "eta") / 100,
            centre(summary, "phi") / 100,
            width(summary, "eta") / 100,
            width(summary, "phi") / 100,
            np.log10(summary.total_energy + 1e-8)[:, None],
            sparsity(summary),
            centre(summary, "r") / 100,
            width(summary, "r") / 100,
            condition_features(summary),
        ]
    )


def condition_features(summary: Summary) -> NDArray[np.float64]:
    """Return the conditions beside the energy: theta, sine and cosine of phi, and a number for the particle.

    Returns:
        (N, 0) to (N, 4).
    """
    columns = [] if summary.theta is None else [summary.theta]
    if summary.phi is not None:
        columns += [np.sin(summary.phi), np.cos(summary.phi)]
    if summary.particle is not None:  # codes reach from 11 to those of nuclei, 1e9
        columns.append(np.sign(summary.particle) * np.log10(np.abs(summary.particle)))
    return np.stack(columns, axis=1) if columns else np.empty((len(summary), 0))
