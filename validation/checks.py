"""What is checked of samples before and beside their comparison."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, ks_2samp

from caloforge.errors import InputError
from caloforge.preprocessing.prepare import FEWEST_JUDGED
from caloforge.preprocessing.units import wrong_units
from caloforge.progress import Progress
from caloforge.showers import Showers
from caloforge.validation.observables.summary import Summary, checked_chunks
from caloforge.validation.row import Row

logger = logging.getLogger(__name__)

FEWEST = FEWEST_JUDGED
MOST_COPIES = 0.01
"""Share of the reference's showers that may be in the training sample by chance, empty ones for example."""


NEAR_ONE = 0.9
"""From this AUC on it is said what a family needs: nearly all of its showers are recognised."""
DIFFERENT = 1e-4
"""Conditions of two samples differ if so different ones are less probable between equal samples."""


def check_sizes(reference: Showers, samples: Mapping[str, Showers], *, halved: bool) -> None:
    """Refuse samples that are too small."""
    fewest = 2 * FEWEST if halved else FEWEST
    if len(reference) < fewest:
        why = ", because it is halved to find the floor" if halved else ""
        raise InputError(f"{reference.path}: {len(reference)} showers; the reference needs {fewest} or more{why}")
    for name, showers in samples.items():
        if len(showers) < FEWEST:
            raise InputError(f"{showers.path} ({name}): {len(showers)} showers; a sample needs {FEWEST} or more")


def check_timings(timings: Mapping[str, float]) -> None:
    """Refuse times that are none."""
    for name, value in timings.items():
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"timings: {name}: expected milliseconds per shower, got {value}")


def check_geometries(reference: Showers, samples: Mapping[str, Showers]) -> None:
    """Refuse samples on another mesh than the reference's."""
    for name, showers in samples.items():
        _check_geometry(reference, showers, name)


def _check_geometry(reference: Showers, showers: Showers, name: str) -> None:
    if said := reference.geometry.difference(showers.geometry):
        raise InputError(
            f"{showers.path} ({name}): its geometry is not that of the reference {reference.path}: {said}; "
            "give both files the same geometry"
        )


def check_units(reference: Showers, samples: Mapping[str, Showers]) -> None:
    """Refuse samples whose response or incident energies differ as GeV differ from MeV.

    Looks at the first showers only, before any threshold is applied.
    """
    expected = _mean_energies(reference)
    for name, showers in samples.items():
        for what, found in _mean_energies(showers).items():
            ratio = found / expected[what] if expected[what] > 0 else 1.0
            if any(factor / 3 < ratio < factor * 3 for factor in (1e-3, 1e3)):
                msg = (
                    f"{showers.path} ({name}): mean {what} is {found:.4g}, but {expected[what]:.4g} in "
                    f"{reference.path}: a factor of about 1000, as if GeV and MeV were mixed up; "
                    "all energies must be in MeV"
                )
                raise InputError(msg)


def _mean_energies(showers: Showers) -> dict[str, float]:
    voxels = next(showers.chunks())
    energy = showers.conditions.incident_energy
    total = voxels.sum(axis=1, dtype=np.float64)
    return {"E_tot/E_inc": float((total / energy[: len(total)]).mean()), "incident energy": float(energy.mean())}


def check_values(samples: Mapping[str, Showers]) -> None:
    """Refuse samples with a voxel that is no energy, in whichever row: only some rows are compared, all are counted on.

    Raises:
        InputError: a voxel is NaN, infinite or negative; or a sample cannot be in MeV.
    """
    for name, showers in samples.items():
        energy = showers.conditions.incident_energy
        total = np.zeros(len(showers))
        progress = Progress(f"checking {name}", len(showers), unit="shower")
        start = 0
        for chunk in checked_chunks(showers):
            total[start : start + len(chunk)] = chunk.sum(1, dtype=np.float64)
            start += len(chunk)
            progress.update(start)
        if why := wrong_units(energy, total, least_response=0.0):
            raise InputError(f"{showers.path} ({name}): showers: {why}")


def condition_warnings(truth: Summary, summaries: Mapping[str, Summary]) -> list[str]:
    """Say which samples have other conditions than the reference: then differences are not the generator's."""
    found = []
    for name, summary in summaries.items():
        for title, what in _CONDITIONS.items():
            ours, theirs = what(truth), what(summary)
            if ours is None or theirs is None:
                if ours is not None:
                    text = f"{name}: has no {title}, which the reference has: nothing is judged by it, for any sample"
                    found.append(text)
                continue
            if _same(ours, theirs):
                continue
            verb = "are" if title.endswith("s") else "is"
            text = (
                f"{name}: its {title} {verb} distributed differently from the reference's; "
                f"generate it with the reference's {title}"
            )
            found.append(text)
    for text in found:
        logger.warning("validate: %s", text)
    return found


_CONDITIONS: Mapping[str, Callable[[Summary], NDArray[Any] | None]] = {
    "incident energies": lambda s: s.incident_energy,
    "theta": lambda s: s.theta,
    "phi": lambda s: None if s.phi is None else np.mod(s.phi, 2 * np.pi),
    "particles": lambda s: s.particle,
}


def _same(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    """Return whether two samples of a condition may be of one distribution."""
    if ours.dtype.kind != "i":
        return bool(ks_2samp(ours, theirs, method="asymp").pvalue >= DIFFERENT)
    levels = np.union1d(ours, theirs)
    if len(levels) == 1:
        return True
    counts = [[int((one == level).sum()) for level in levels] for one in (ours, theirs)]
    return bool(chi2_contingency(counts).pvalue >= DIFFERENT)


def check_twice(samples: Mapping[str, Showers]) -> None:
    """Refuse the same showers under two names."""
    seen: list[tuple[str, Showers]] = []
    for name, showers in samples.items():
        for other, before in seen:
            if before.path.samefile(showers.path) and np.array_equal(before.rows, showers.rows):
                raise InputError(f"{showers.path}: is given twice, as {other} and as {name}")
        seen.append((name, showers))


def copy_warnings(reference: Sequence[Summary], summaries: Mapping[str, Summary]) -> list[str]:
    """Say which samples hold the reference's own showers: layer by layer the same energies, to seven digits.

    Args:
        reference: summaries of the reference's showers, those of the floor too if they are its other half.
        summaries: of the generators.
    """
    own = {row for summary in reference for row in _rows(summary)}
    found = []
    for name, summary in summaries.items():
        rows = _rows(summary)
        copies = sum(row in own for row in rows)
        if copies > MOST_COPIES * len(summary):
            copies = len(summary) if copies == len(rows) else copies  # the empty ones too, then
            text = f"{name}: {copies} of {len(summary)} showers are the reference's own; nothing is judged by them"
            logger.warning("validate: %s", text)
            found.append(text)
    return found


def _rows(summary: Summary) -> list[bytes]:
    """Return the layer energies of each shower that has any as something to look up."""
    energies = summary.layer_energy.astype(np.float32)
    return [row.tobytes() for row in energies[energies.any(axis=1)]]


def overlap_warnings(copies: Mapping[str, float], training: Showers) -> list[str]:
    """Say which sample of Geant4 was trained on: then generators that repeat it look better than they are.

    Args:
        copies: name of the sample to the share of its showers that are in the training sample.
        training: the training sample.
    """
    warnings = [
        f"{100 * share:.0f} % of the {name}'s showers are in the training sample {training.path.name}: they are not "
        "held out, so that memorisation goes unseen"
        for name, share in copies.items()
        if share > MOST_COPIES
    ]
    for text in warnings:
        logger.warning("validate: %s", text)
    return warnings


def impossible_warnings(rows: Sequence[Row]) -> list[str]:
    """Say whose showers include some that the generator behind the likelihood holds to be impossible."""
    counts = {row.generator: int(row.extra.get("impossible", 0)) for row in rows}
    warnings = [
        f"{name}: {count} of {rows[0].n} showers have the probability 0; their mean log-likelihood is that of the others"
        for name, count in counts.items()
        if count
    ]
    for text in warnings:
        logger.warning("validate: %s", text)
    return warnings


def shared_energies(samples: Mapping[str, Showers]) -> tuple[str, ...]:
    """Return a note for each trained layer-energy model that several generators stand on.

    Their response, resolution and longitudinal profile then come from one model, and agree but for the draws.
    """
    standing: dict[str, list[str]] = {}
    for name, showers in samples.items():
        if found := showers.attributes.get("layer_energies"):
            standing.setdefault(str(found), []).append(name)
    return tuple(
        f"{', '.join(names[:-1])} and {names[-1]} stand on the same trained layer energies (SHA-256 {found[:12]}): "
        "response, resolution and longitudinal profile come from one model."
        for found, names in standing.items()
        if len(names) > 1
    )


def family_notes(samples: Mapping[str, Showers], auc: Mapping[str, float]) -> tuple[str, ...]:
    """Return what families say beside an AUC near 1, see :attr:`caloforge.models.family.Family.note`."""
    return tuple(
        f"{name}: {note}"
        for name, showers in samples.items()
        if (note := showers.attributes.get("family_note")) and auc.get(name, 0.0) >= NEAR_ONE
    )


def student_notes(samples: Mapping[str, Showers]) -> tuple[str, ...]:
    """Return how generators that were distilled compare with their teachers."""
    return tuple(
        f"{name}: {note}" for name, showers in samples.items() if (note := showers.attributes.get("distilled"))
    )
