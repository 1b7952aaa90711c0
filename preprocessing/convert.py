"""Shower files of any format that a reader knows, written as caloforge's own; and what such files are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.conditions import ConditionName
from caloforge.domain import domains_of
from caloforge.outputs import check_file
from caloforge.preprocessing.prepare import PrepareSettings
from caloforge.preprocessing.quality import check_quality, unit_faults
from caloforge.preprocessing.readers.find import join, open_sources
from caloforge.preprocessing.readers.reader import ShowerStream
from caloforge.preprocessing.registries import READERS
from caloforge.preprocessing.units import wrong_units
from caloforge.progress import Progress
from caloforge.provenance import provenance
from caloforge.showers import TEST_FROM, Conditions, VoxelArray, write_showers

logger = logging.getLogger(__name__)


def convert(
    sources: Sequence[Path],
    output: Path,
    *,
    test: Sequence[Path] = (),
    form: str | None = None,
    geometry: str | None = None,
    particle: str | None = None,
    conditions: Mapping[ConditionName, float] | None = None,
) -> dict[str, Any]:
    """Write showers of any format as CaloChallenge HDF5, chunk by chunk.

    Args:
        sources: see :func:`caloforge.preprocessing.readers.find.open_sources`, like what follows.
        output: the file.
        test: sources like these, of the showers that generators are to be judged on. They come last, and the file says
            where they begin: ``test_from``.
        form: name of the format.
        geometry: the mesh.
        particle: which one.
        conditions: of all showers, beside those that the sources say: the particle of a file of one particle.

    Returns:
        The format, the geometry and the number of showers.

    Raises:
        InputError: the sources cannot be read, or the output not be written.
    """
    check_file(output, inputs=[*sources, *test])
    name, stream = open_sources(sources, form=form, geometry=geometry, particle=particle)
    stream = stream.labelled(conditions or {})
    attributes: dict[str, Any] = {}
    if test:
        _, held_out = open_sources(test, form=form, geometry=geometry, particle=particle)
        attributes[TEST_FROM] = len(stream)
        stream = join([stream, held_out.labelled(conditions or {})])
    attributes |= stream.attributes
    if stream.threshold is not None:
        attributes["energy_threshold"] = stream.threshold
    attributes |= {"converted_from": name, "converted_files": ", ".join(file.name for file in stream.files)}
    origin = provenance(inputs={f"source_{number}": file for number, file in enumerate(stream.files)})
    progress = Progress("converting", len(stream), unit="shower")
    energies, totals, done = [], [], 0
    with write_showers(output, stream.geometry, attributes=attributes, provenance=origin) as writer:
        for asked, voxels in stream.pairs():
            writer.append(asked, voxels)
            energies.append(asked.incident_energy)
            totals.append(voxels.sum(1, dtype=np.float64))
            done += len(asked)
            progress.update(done)
    energy, total = np.concatenate(energies), np.concatenate(totals)
    known = np.isfinite(total)
    if why := wrong_units(energy[known], total[known], least_response=PrepareSettings().min_response):
        logger.warning("%s: %s", output.name, why)
    return {"format": name, "geometry": stream.geometry.name, "showers": done}


def inspect(
    sources: Sequence[Path],
    *,
    form: str | None = None,
    geometry: str | None = None,
    particle: str | None = None,
    picture: Path | None = None,
) -> dict[str, str]:
    """Return in words what shower files are, after one pass over them.

    Args:
        sources: as of :func:`convert`, like what follows.
        form: name of the format.
        geometry: the mesh.
        particle: which one.
        picture: PNG file of the mean shower, to be written.

    Raises:
        InputError: the sources cannot be read, or the picture not be written.
    """
    if picture is not None:
        check_file(picture, inputs=sources)
    name, stream = open_sources(sources, form=form, geometry=geometry, particle=particle)
    summed = np.zeros(stream.geometry.n_voxels)
    if picture is not None:
        stream = replace(stream, read=partial(_summing, stream, summed))
    settings = PrepareSettings()
    quality = check_quality(stream, threshold=stream.threshold or 0.0, max_response=settings.max_response)
    mesh, conditions = stream.geometry, quality.conditions
    faults = [f"{reason}: {count} of {len(stream)} showers" for reason, count in quality.counts.items() if count]
    if picture is not None:
        from caloforge.preprocessing.picture import write_picture

        title = f"Mean of {len(stream)} showers, {stream.files[0].name}, {mesh.name}"
        write_picture(summed / len(stream), mesh, picture, title=title)
    faults += unit_faults(quality, stream.threshold or 0.0, least_response=settings.min_response)
    return {
        "format": f"{name} ({READERS.get(name).title})",
        "files": ", ".join(str(file) for file in stream.files),
        "geometry": f"{mesh.name}: {mesh.size_in_words}",
        "showers": str(len(stream)),
        **{name: domain.told(name) for name, domain in domains_of(conditions).items()},
        "threshold": "none stated" if stream.threshold is None else f"{stream.threshold:.6g} MeV",
        "occupancy": f"{quality.occupancy:.2%} of the voxels",
        "response": f"{quality.response[0]:.4f} ± {quality.response[1]:.4f} (E_tot / E_inc, standard deviation)",
        "problems": "; ".join(faults) or "none",
    }


def _summing(stream: ShowerStream, summed: NDArray[np.float64]) -> Iterator[tuple[Conditions, VoxelArray]]:
    """Yield the showers of a stream and add the energies of each voxel, (V,) MeV; what is no number is left out."""
    for conditions, voxels in stream.pairs():
        summed += np.nan_to_num(voxels, nan=0, posinf=0, neginf=0).sum(0, dtype=np.float64)
        yield conditions, voxels
