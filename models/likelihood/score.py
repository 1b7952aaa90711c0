"""Score showers: their log-likelihood, how unusual each of them is, and whether all together are other than before."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.hdf5_output import Hdf5Output
from caloforge.models.bundle import LIKELIHOOD, Generator, bundle_folder, load_bundle
from caloforge.models.likelihood.calibration import Calibration
from caloforge.models.likelihood.log_prob import TOTAL, log_probs
from caloforge.outputs import check_file, result_file
from caloforge.progress import Progress
from caloforge.provenance import provenance
from caloforge.showers import Showers
from caloforge.steps import step

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]


def score(bundle: Path, showers: Showers, output: Path) -> dict[str, float]:
    """Write log p of each shower and of its parts to an HDF5 file, as they come.

    The file has ``log_prob`` (N,) in nats, a density per MeV of each hit, and ``parts/NAME`` (N,) that add up
    to it. With a bundle that is calibrated also ``residual`` (N,), how many standard deviations log p is above
    the ordinary one of that incident energy, ``distance`` (N,) of all parts together and ``p_value`` (N,),
    the chance that an ordinary shower is at least so far off.

    Args:
        bundle: the generator's folder.
        showers: N showers.
        output: file to write, neither an input nor one of the bundle's.

    Returns:
        ``showers``; ``mean_log_prob`` of those that can be, and ``impossible``, how many cannot. With a
        calibration the comparison with the held-out showers of the training: ``mean_residual`` with its error,
        ``p_value_same``, the chance of so different residuals or distances (Kolmogorov and Smirnov, the smaller of
        two times two) between equal samples, ``unusual``, the share of showers with a p-value below 0.01.

    Raises:
        InputError: the bundle is damaged or its family has no likelihood, or the showers do not fit it, or the file may not be
            written.
    """
    inputs = [bundle, showers.path]
    check_file(output, inputs=inputs)
    generator = load_bundle(bundle, device="cuda" if torch.cuda.is_available() else "cpu")
    check_scorable(generator, showers)
    calibration = read_calibration(bundle)
    if calibration is None:
        logger.warning("%s: trained by a version without calibration: no p-values; train it again to have them", bundle)
    n, conditions = len(showers), showers.conditions
    residuals: list[FloatArray] = []
    distances: list[FloatArray] = []
    totals: list[FloatArray] = []
    with step(f"score {generator.family}"), _scores(output, inputs=inputs) as (file, disk):
        file.attrs.update(_attributes(bundle, generator, showers))
        progress = Progress(f"{generator.family} scoring", n, unit="shower")
        start = 0
        for parts in log_probs(generator.network, showers):
            rows = slice(start, start + len(parts[TOTAL]))
            columns = {f"parts/{name}": values for name, values in parts.items() if name != TOTAL}
            columns["log_prob"] = parts[TOTAL]
            totals.append(parts[TOTAL])
            if calibration is not None:
                found = calibration.residuals(conditions.take(rows), parts)
                residuals.append(found[TOTAL])
                distances.append(calibration.distances(found))
                columns |= {"residual": residuals[-1], "distance": distances[-1]}
                columns["p_value"] = calibration.p_values(distances[-1])
            for name, values in columns.items():
                file.require_dataset(name, (n,), np.float64)[rows] = values
            disk.check()
            start = rows.stop
            progress.update(start)
    total = np.concatenate(totals)
    possible = np.isfinite(total)
    figures = {
        "showers": float(n),
        "mean_log_prob": float(total[possible].mean()) if possible.any() else 0.0,
        "impossible": float((~possible).sum()),
    }
    if calibration is not None:
        figures |= _compared(calibration, np.concatenate(residuals), np.concatenate(distances))
    return figures


@contextmanager
def _scores(output: Path, *, inputs: Sequence[Path]) -> Iterator[tuple[h5py.File, Hdf5Output]]:
    """Yield a new HDF5 file, and what says whether the disk takes it."""
    with result_file(output, inputs=inputs) as temporary, closing(Hdf5Output(temporary)) as disk:
        with h5py.File(disk, "w") as file:
            yield file, disk
        disk.check()


def check_scorable(generator: Generator, showers: Showers) -> None:
    """Refuse what cannot be scored.

    Raises:
        InputError: the family has no likelihood, or the showers have another mesh, other conditions or energies
            outside the trained range.
    """
    if not generator.network.has_likelihood:
        raise InputError(f"family {generator.family!r} has no likelihood of showers; the family tree has")
    if said := generator.geometry.difference(showers.geometry):
        raise InputError(
            f"{showers.path}: its mesh {showers.geometry.name} is not that of the generator, {generator.geometry.name}: "
            f"{said}"
        )
    if len(showers) == 0:
        raise InputError(f"{showers.path}: no showers to score")
    generator.check(showers.conditions)


def read_calibration(bundle: Path) -> Calibration | None:
    """Return the calibration of a bundle, None if it has none.

    Raises:
        InputError: it is damaged.
    """
    file = bundle_folder(bundle) / LIKELIHOOD
    if not file.is_file():
        return None
    try:
        found = Calibration.of(read_json(file))
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, OverflowError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"{file}: not a calibration, or damaged ({reason}); train the generator again") from None
    return found


def _compared(calibration: Calibration, residuals: FloatArray, distances: FloatArray) -> dict[str, float]:
    p_values = [
        float(ks_2samp(x, y, method="asymp").pvalue)
        for x, y in ((residuals, calibration.total), (distances, calibration.distance))
    ]
    spread = np.std(calibration.total)
    return {
        "mean_residual": float(residuals.mean() - calibration.total.mean()),
        "mean_residual_error": float(spread * np.sqrt(1 / len(residuals) + 1 / len(calibration.total))),
        "p_value_same": min(1.0, 2 * min(p_values)),
        "unusual": float((calibration.p_values(distances) < 0.01).mean()),
    }


def _attributes(bundle: Path, generator: Generator, showers: Showers) -> dict[str, Any]:
    made = provenance(inputs={"weights": bundle_folder(bundle) / "weights.safetensors", "showers": showers.path})
    return {
        "source": f"caloforge {generator.family}",
        "unit": "nats",
        "showers": showers.path.name,
        "showers_sha256": made["inputs"]["showers"]["sha256"],
        "weights_sha256": made["inputs"]["weights"]["sha256"],
        "caloforge": made["caloforge"],
    }
