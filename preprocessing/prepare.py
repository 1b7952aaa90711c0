"""Prepare a shower file for training: check it, split it, fit the transforms."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from caloforge.conditions import Conditions
from caloforge.config import Config
from caloforge.domain import as_dict, domains_of
from caloforge.errors import InputError
from caloforge.files import write_json
from caloforge.geometry import write_geometry
from caloforge.outputs import check_folder, result_folder
from caloforge.particles import particle_name
from caloforge.preprocessing.prepared import GENERATED, Prepared, load_prepared
from caloforge.preprocessing.quality import Quality, check_quality, unit_faults
from caloforge.preprocessing.units import LEAST_RESPONSE, LOW_ENERGY
from caloforge.progress import Progress
from caloforge.provenance import provenance
from caloforge.result_kinds import PREPARED
from caloforge.showers import MOST_MEV, Showers
from caloforge.source import Source
from caloforge.steps import step

logger = logging.getLogger(__name__)

_NOMINAL_THRESHOLDS = {
    "dataset_1_photons": 1.0,
    "dataset_1_pions": 1.0,
    "dataset_2": 0.5e-3 / 0.033,
    "dataset_3": 0.5e-3 / 0.033,
}
"""MeV, of the CaloChallenge evaluation (arXiv:2410.21611): for files that state none."""

FEWEST_JUDGED = 50
"""Fewer showers than this in the test or the validation split say nothing about a generator."""

FEW_SHOWERS = 500
"""Fewer training showers than this are warned of."""

AUC_OF_SHOWERS = ((500, 0.58), (1000, 0.55), (4800, 0.54))
"""Training showers, and the AUC (high-level) that the tree reached with them in six minutes: docs/generators.md."""

FULL = 0.98
"""Mean share of voxels with energy above which a sample looks as if nothing had cut its noise."""

_NEGATIVE = (
    "no family draws negative cells, which noise makes: set what is under your noise cut to 0 and give the cut, in MeV, as "
    "the preprocessing setting 'threshold'"
)


class PrepareSettings(Config):
    """How showers are prepared.

    Attributes:
        threshold: MeV; voxels under it become 0. None: what the file says, or else the
            CaloChallenge's value for its geometry.
        max_response: showers with E_tot / E_inc above it are dropped as impossible.
        min_response: a sample whose mean E_tot / E_inc is below it is refused: its energies are not in MeV.
        validation_fraction: share of the good showers kept for comparisons between samples.
        test_fraction: share of the good showers on which generators are judged; of no use where some are given for it.
        voxel_scaling: coding of the voxels, see :mod:`caloforge.preprocessing.transforms`.
    """

    threshold: float | None = Field(default=None, gt=0, lt=MOST_MEV)
    max_response: float = Field(default=3.0, gt=0)
    min_response: float = Field(default=LEAST_RESPONSE, ge=0)
    validation_fraction: float = Field(default=0.2, gt=0, lt=0.5)
    test_fraction: float = Field(default=0.2, gt=0, lt=0.5)
    voxel_scaling: Literal["quantile", "logit", "power"] = "quantile"


def prepare(
    showers: Showers,
    output: Path,
    *,
    settings: PrepareSettings | None = None,
    seed: int = 0,
    held_out: Prepared | None = None,
    source: Source | None = None,
    overwrite: bool = False,
) -> Prepared:
    """Check, split and fit; the showers are read twice in chunks and never copied.

    Args:
        showers: the opened file.
        output: folder to write: ``prepared.json``, ``splits.npz``, ``conditions.npz``,
            ``transform.safetensors``, ``geometry.xml`` (or ``.csv``) and ``quality.md``.
        settings: how to prepare.
        seed: of the split and of the noise that codes zeros.
        held_out: the same showers prepared in another way: its test and validation splits are taken over, whatever the
            settings say of them, and all other good showers are trained on.
        source: where the showers came from, see :func:`caloforge.fetch.fetch`; kept in the folder.
        overwrite: see :func:`caloforge.outputs.check_folder`.

    Raises:
        InputError: the folder may not be written, no threshold is known, too few showers are good, or the file is not the one that
            was fetched, or that the held-out showers are of.
    """
    settings = settings or PrepareSettings()
    check_folder(output, PREPARED, inputs=[showers.path], overwrite=overwrite)
    check_showers(showers, settings)
    with step("preprocess"):
        threshold = _threshold(showers, settings)
        quality = check_quality(showers, threshold=threshold, max_response=settings.max_response)
        if (negative := quality.counts["negative energy"]) > len(showers) / 2:
            raise InputError(
                f"{showers.path}: showers: {negative} of {len(showers)} have negative energies; {_NEGATIVE}"
            )
        for reason, count in quality.counts.items():
            if count:
                hint = f"; {_NEGATIVE}" if reason == "negative energy" else ""
                logger.warning("%s: dropped %d showers: %s%s", showers.path.name, count, reason, hint)
        _check_units(showers, quality, threshold, settings)
        splits = _split(quality, settings, seed, showers) if held_out is None else _beside(held_out, quality)
        _warn(showers.path.name, quality, len(splits["train"]), threshold)
        training = showers.select(splits["train"])
        # Of all splits: held-out ones at the edges must not count as outside.
        conditions = showers.select(np.sort(np.concatenate(list(splits.values())))).conditions
        domains = domains_of(conditions)
        _warn_of_rare(showers.path.name, conditions)
        with result_folder(output, PREPARED, inputs=[showers.path], overwrite=overwrite) as folder:
            _fit_transforms(training, folder, settings, threshold, seed)
            np.savez(folder / "splits.npz", allow_pickle=False, **splits)
            kept = {split: showers.select(splits[split]).conditions for split in GENERATED}
            columns = {f"{split}_{name}": getattr(kept[split], name) for split in kept for name in kept[split].names}
            np.savez(folder / "conditions.npz", allow_pickle=False, **columns)
            origin = provenance(inputs={"showers": showers.path}, seed=seed)
            if held_out is not None and origin["inputs"] != held_out.record["provenance"]["inputs"]:
                raise InputError(f"{showers.path}: is not the file that {held_out.path} was prepared from")
            write_geometry(showers.geometry, folder)
            (folder / "quality.md").write_text(quality.markdown(), encoding="utf-8")
            record = {
                "format": 2,
                "geometry": showers.geometry.name,
                "settings": settings.model_dump(),
                "threshold": threshold,
                "conditions": as_dict(domains),
                "phi_symmetric": quality.phi_symmetric,
                "splits": {name: len(rows) for name, rows in splits.items()},
                "quality": {
                    "showers": len(showers),
                    "good": int(quality.good.sum()),
                    "dropped": quality.counts,
                    "occupancy": quality.occupancy,
                    "response_mean": quality.response[0],
                    "response_std": quality.response[1],
                },
                "source": _source(source, showers.path, origin).as_dict(),
                "provenance": origin,
            }
            write_json(folder / "prepared.json", record)
        logger.info(
            "prepared %d good showers of %d: %s; threshold %.4g MeV, %s coding",
            int(quality.good.sum()), len(showers),
            ", ".join(f"{len(rows)} {name}" for name, rows in splits.items()), threshold, settings.voxel_scaling,
        )  # fmt: skip
        return load_prepared(output)


def _source(source: Source | None, path: Path, origin: dict[str, Any]) -> Source:
    """Return where the showers came from, with the checksum of what was read."""
    found: str = origin["inputs"]["showers"]["sha256"]
    if source is None:
        return Source(path.name, path.stat().st_size, found, origin["created"])
    if source.sha256 not in ("", found):
        raise InputError(
            f"{path}: is damaged, or was changed: its SHA-256 is {found}, but {source.sha256} was fetched from "
            f"{source.address}; remove it and run again"
        )
    return replace(source, sha256=found)


def check_showers(showers: Showers, settings: PrepareSettings) -> None:
    """Refuse showers that cannot be prepared, as far as that can be told without reading them.

    Raises:
        InputError: no threshold is known, or there are too few of them.
    """
    _threshold(showers, settings)
    if showers.test_from is None:
        _check_number(len(showers), settings, f"{showers.path}: holds only {len(showers)} showers")


def _threshold(showers: Showers, settings: PrepareSettings) -> float:
    if settings.threshold is not None:
        return settings.threshold
    found = showers.threshold
    if found is None:
        found = _NOMINAL_THRESHOLDS.get(showers.geometry.name)
    how = "give --threshold MEV (of a pipeline the setting prepare: {threshold: MEV})"
    if found is None:
        text = f"{showers.path}: states no energy threshold, and geometry {showers.geometry.name!r} has no usual one"
        raise InputError(f"{text}; {how}")
    if found == 0:
        text = f"{showers.path}: attribute energy_threshold is 0, but a generator needs a positive one"
        raise InputError(f"{text}; {how}")
    if found >= MOST_MEV:
        raise InputError(f"{showers.path}: its energy threshold is {found:g} MeV; {how}")
    return found


def _check_number(n: int, settings: PrepareSettings, what: str) -> None:
    """Refuse fewer showers than leave enough to judge by."""
    fractions = {name: getattr(settings, name) for name in ("test_fraction", "validation_fraction")}
    name, least = min(fractions.items(), key=lambda one: one[1])
    if round(least * n) < FEWEST_JUDGED:
        needed = math.ceil(FEWEST_JUDGED / least)
        raise InputError(f"{what}; {needed} are needed, to have {FEWEST_JUDGED} to judge by ({name} is {least:g})")


def _check_units(showers: Showers, quality: Quality, threshold: float, settings: PrepareSettings) -> None:
    """Refuse energies that cannot be in MeV; a sample that may be is only asked about."""
    path, energy = showers.path, showers.conditions.incident_energy
    for why in unit_faults(quality, threshold, least_response=settings.min_response):
        raise InputError(f"{path}: showers: {why}")
    if float(energy.max()) < LOW_ENERGY:
        text = "%s: incident_energies: the largest is %.4g MeV; if these are GeV, multiply all energies by 1000"
        logger.warning(text, path.name, energy.max())


def _split(quality: Quality, settings: PrepareSettings, seed: int, showers: Showers) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each split, rising; of the test those that the file keeps for it, if it does."""
    good = np.flatnonzero(quality.good)
    dropped = ", ".join(f"{count} {reason}" for reason, count in quality.counts.items() if count) or "none dropped"
    what = f"{showers.path}: holds only {len(good)} good showers ({dropped})"
    if showers.test_from is None:
        _check_number(len(good), settings, what)
        order = np.random.default_rng(seed).permutation(good)
        test, rest = np.split(order, [round(settings.test_fraction * len(good))])
        n_validation = round(settings.validation_fraction * len(good))
    else:
        test, rest = good[good >= showers.test_from], good[good < showers.test_from]
        n_validation = round(settings.validation_fraction * len(rest))
        for name, n in (("given to judge by", len(test)), ("of the rest kept for validation", n_validation)):
            if n < FEWEST_JUDGED:
                raise InputError(
                    f"{showers.path}: only {n} good showers are {name} ({dropped}); {FEWEST_JUDGED} are needed"
                )
        rest = np.random.default_rng(seed).permutation(rest)
    validation, train = np.split(rest, [n_validation])
    return {name: np.sort(rows) for name, rows in (("test", test), ("validation", validation), ("train", train))}


def _beside(held_out: Prepared, quality: Quality) -> dict[str, NDArray[np.int64]]:
    """Return the splits of another preparation, with all showers in the training one that are good and not held out."""
    kept = {name: held_out.splits[name] for name in ("test", "validation")}
    return {**kept, "train": np.setdiff1d(np.flatnonzero(quality.good), np.concatenate(list(kept.values())))}


def _warn(name: str, quality: Quality, n_training: int, threshold: float) -> None:
    """Say what no setting of a training will mend."""
    if n_training < FEW_SHOWERS:
        figures = ", ".join(f"{auc:.2f} with {n}" for n, auc in AUC_OF_SHOWERS)
        logger.warning(
            "%s: only %d showers to train on; a classifier told the tree's showers from Geant4's with an AUC of %s of them "
            "(0.5: not at all; docs/generators.md): simulate more if you can",
            name, n_training, figures,
        )  # fmt: skip
    if quality.occupancy > FULL:
        logger.warning(
            "%s: %.1f %% of all voxels are above the threshold of %.4g MeV: if that is noise, set 'threshold' above it; "
            "otherwise hits say nothing here, and the family tree is a cascade of energies alone",
            name, 100 * quality.occupancy, threshold,
        )  # fmt: skip


def _warn_of_rare(name: str, conditions: Conditions) -> None:
    """Say which particles are too few to be learnt."""
    if conditions.particle is None:
        return
    for code, number in zip(*np.unique(conditions.particle, return_counts=True), strict=True):
        if number < FEW_SHOWERS / 2:
            text = "%s: only %d showers of %s; a generator learns little of them, and nothing can judge it by them"
            logger.warning(text, name, number, particle_name(int(code)))


def _fit_transforms(training: Showers, folder: Path, settings: PrepareSettings, threshold: float, seed: int) -> None:
    """Fit both stages in one pass and save what was fitted."""
    import torch
    from safetensors.torch import save_file

    from caloforge.draws import Draws
    from caloforge.preprocessing.transforms import Transforms
    from caloforge.preprocessing.voxel_steps import LayerSums

    sums = LayerSums(training.geometry)
    transforms = Transforms.of(training.geometry, settings.voxel_scaling)
    draws = Draws(torch.Generator().manual_seed(seed))
    incident = torch.from_numpy(training.conditions.incident_energy).float()[:, None]
    energy_fit, hit_fit, voxel_fit = transforms.energies.fit(), transforms.hits.fit(), transforms.voxels.fit()
    progress = Progress("fitting transforms", len(training), unit="shower")
    start = 0
    for chunk in training.chunks(threshold=threshold):
        values = torch.from_numpy(chunk)
        context = sums.context_of(values, threshold)
        stop = start + len(chunk)
        energy_fit.update(context.layer_energy, incident[start:stop])
        hit_fit.update(context.layer_hits, context.layer_energy, threshold, draws)
        voxel_fit.update(values, context, draws)
        progress.update(stop)
        start = stop
    energy_fit.finish()
    hit_fit.finish()
    voxel_fit.finish()
    save_file(transforms.state(), folder / "transform.safetensors")
    write_json(
        folder / "transform.json",
        {
            "energies": ["ratios", "log, logit", "standardise"],
            "hits": ["share of what is possible", "logit", "standardise"],
            "voxels": transforms.voxels.config(),
        },
    )
