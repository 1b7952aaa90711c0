"""Train a corrector from fast to full simulation."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from torch import Tensor

from caloforge.domain import check_inside
from caloforge.draws import Draws
from caloforge.errors import InputError
from caloforge.files import sha256
from caloforge.models.batch import Batch
from caloforge.models.family import Stage
from caloforge.models.refiner import Refiner, RefinerConfig
from caloforge.models.refiner_bundle import save_refiner
from caloforge.models.registries import SAMPLERS
from caloforge.models.training.data import TrainingData
from caloforge.models.training.fabric import open_fabric
from caloforge.models.training.record import training_figures
from caloforge.models.training.train import check_minutes, data_spec, fingerprint, fit_stages, training_record
from caloforge.outputs import check_folder
from caloforge.preprocessing.prepared import load_prepared, open_split
from caloforge.provenance import provenance
from caloforge.result_kinds import REFINER
from caloforge.showers import Showers
from caloforge.steps import step

NEIGHBOURS = 16
"""A full shower is paired with one of so many fast ones with the nearest conditions, at random."""

CONDITION_COST = 400.0
"""What a squared difference of encoded conditions costs beside the mean squared difference of codes: pairs that differ by
more than about 5 % of half the range are not exchanged."""

LAYER_SHARE = 0.2
"""Of a time limit."""


def refiner_config(overrides: Mapping[str, Any] | None = None) -> RefinerConfig:
    """Return the settings of a corrector, changed by overrides.

    Raises:
        InputError: unknown key, bad value, or a sampler that takes no velocity.
    """
    config = RefinerConfig.parse(dict(overrides or {}), where="refiner")
    if SAMPLERS.get(config.sampler.name).takes != "velocity":
        raise InputError(f"refiner: sampler {config.sampler.name!r} takes no velocity; choose heun, midpoint or euler")
    return config


def train_refiner(
    full: Path,
    prepared: Path,
    fast: Showers,
    output: Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    max_minutes: float | None = None,
    overwrite: bool = False,
) -> dict[str, float]:
    """Train a corrector; a killed training goes on when it is called again.

    Args:
        full: shower file of the full simulation, which was prepared; its training split is what is learnt.
        prepared: folder of the prepared data.
        fast: showers of the fast simulation for the training, with conditions like the full ones', not necessarily the
            same.
        output: folder to write.
        overrides: changes to :class:`caloforge.models.refiner.RefinerConfig`.
        seed: of the first weights and all that follows.
        max_minutes: limit on the training.
        overwrite: see :func:`caloforge.outputs.check_folder`.

    Returns:
        Finite numbers: last losses, steps, seconds, parameters.

    Raises:
        InputError: unknown override, or showers that do not fit each other.
        TrainingDiverged: the training diverged.
        TrainingInterrupted: SIGTERM came; the state is saved.
    """
    config = refiner_config(overrides)
    check_minutes(max_minutes)
    target = check_folder(output, REFINER, inputs=[full, prepared, fast.path], overwrite=overwrite)
    with step("train refiner"):
        started = time.monotonic()
        found = load_prepared(prepared)
        _check_fits(fast, full, found.geometry.difference(fast.geometry), found.domains)
        split = open_split(full, prepared, "train")
        fabric = open_fabric()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            refiner = Refiner(config, data_spec(found, transforms=True))
        given = {"file": fast.path.name, "sha256": sha256(fast.path)}
        root = target.parent / f".{target.name}.checkpoints"
        folder = root / fingerprint([config.model_dump(mode="json"), seed, given, fast.rows.tolist()], prepared)
        (folder / "fast").mkdir(parents=True, exist_ok=True)
        data = TrainingData(split, found, folder, seed=seed, fabric=fabric)
        others = TrainingData(fast, found, folder / "fast", seed=seed, fabric=fabric)
        refiner.begin(torch.cat([batch.layer_energy > 0 for batch in data.chunks()]))
        pairs = Pairs(refiner, others)
        refiner.to(fabric.device)
        limit = None if max_minutes is None else 60 * max_minutes - (time.monotonic() - started)
        stages = {
            "layers": Stage(config.layers, pairs.of_layers, share=LAYER_SHARE),
            "voxels": Stage(config.voxels, pairs.of_voxels, share=1 - LAYER_SHARE),
        }
        done = fit_stages(
            refiner, stages, data, folder, fabric, name="refiner", seed=seed, limit=fabric.broadcast(limit)
        )
        del data, others, pairs, stages  # nobody may have files open in the folder that is removed below
        record = {
            "config": config.model_dump(mode="json"),
            "max_minutes": max_minutes,
            **training_record(refiner, done, fabric),
            "provenance": provenance(inputs={"full": full, "fast": fast.path}, seed=seed),
        }
        save_refiner(output, refiner, found, fast=given, record=record, overwrite=overwrite)
        shutil.rmtree(root)
    return training_figures(record)


class Pairs:
    """Pairs of a fast and a full shower with nearly the same conditions, as alike as they can be had in a batch.

    Optimal transport in batches (Tong et al., arXiv:2302.00482, section 3.3) within the conditions: every shower of
    both samples counts once, so that the distributions of both stay what they are, and paths cross less.
    """

    def __init__(self, refiner: Refiner, fast: TrainingData) -> None:
        """Take the corrector, which codes the showers, and those of the fast simulation."""
        self._refiner, self._fast = refiner, fast
        self._tree = KDTree(refiner.encoder(fast.conditions).numpy())

    def of_layers(self, data: TrainingData, number: int, size: int, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes of layers of fast and of full showers, (B, 3L) each, and their conditions (B, C)."""
        full = data.batch(number, size, draws)
        told, fast = self._near(full, draws)
        codes = [self._refiner.encode_layers(one, draws) for one in (fast, full)]
        order = _assigned([codes], self._refiner.encoder(fast.raw_conditions), told)
        return codes[0][order], codes[1], told

    def of_voxels(self, data: TrainingData, number: int, size: int, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """Return codes of voxels of fast and of full showers, (B, V) each, and the full ones' conditions (B, C)."""
        full = data.batch(number, size, draws, turned=True)
        told, fast = self._near(full, draws, turned=True)
        codes = [self._refiner.encode_voxels(one, draws) for one in (fast, full)]
        codes[0] = self._refiner.blurred(codes[0], draws)
        # Layers count as well: those of a fast shower will have been brought to full ones by the other bridge.
        layers = [self._refiner.encode_layers(one, draws) for one in (fast, full)]
        order = _assigned([layers, codes], self._refiner.encoder(fast.raw_conditions), told)
        condition = self._refiner.voxel_condition(full.raw_conditions, full.layer_energy, full.layer_hits)
        return codes[0][order], codes[1], condition

    def _near(self, full: Batch, draws: Draws, *, turned: bool = False) -> tuple[Tensor, Batch]:
        told = self._refiner.encoder(full.raw_conditions)
        _, near = self._tree.query(told.cpu().numpy(), k=min(NEIGHBOURS, len(self._fast)))
        near = torch.from_numpy(near.reshape(len(told), -1))
        pick = draws.integers(0, near.shape[1], len(told), 1).cpu()
        return told, self._fast.rows(near.gather(1, pick)[:, 0], draws, turned=turned)


def _assigned(codes: list[list[Tensor]], fast: Tensor, full: Tensor) -> Tensor:
    """Return which fast shower goes with each full one, (B,), at the least total cost.

    Args:
        codes: pairs of (B, F), of fast and of full showers.
        fast: (B, C) encoded conditions.
        full: the same.
    """
    cost = CONDITION_COST * torch.cdist(full, fast).square()
    for ours, theirs in codes:
        cost = cost + torch.cdist(theirs, ours).square() / ours.shape[1]
    return torch.from_numpy(linear_sum_assignment(cost.double().cpu().numpy())[1]).to(fast.device)


def _check_fits(fast: Showers, full: Path, said: str | None, domains: Any) -> None:
    if said:
        raise InputError(f"{fast.path}: its mesh is not that of the full simulation {full}: {said}")
    if missing := [name for name in domains if name not in fast.conditions.names]:
        raise InputError(f"{fast.path}: has no {missing[0]}, which the full simulation {full} has")
    check_inside(fast.conditions, domains, extrapolation="refuse")
