"""Train one family on prepared showers and write its bundle."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from caloforge.errors import InputError
from caloforge.files import sha256
from caloforge.models.bundle import Generator, bundle_config, save_bundle
from caloforge.models.data import TrainingData
from caloforge.models.fabric import open_fabric
from caloforge.models.families import family_class
from caloforge.models.loop import Fit, fit
from caloforge.models.presets import GeneratorConfig, TrainingConfig, resolve
from caloforge.models.training_record import training_figures
from caloforge.models.two_stage import TwoStageGenerator
from caloforge.preprocessing.draws import Draws
from caloforge.preprocessing.prepared import load_prepared, open_split
from caloforge.provenance import provenance
from caloforge.steps import step

logger = logging.getLogger(__name__)

ENERGY_SHARE = 0.15
"""Share of a time limit that the layer energies may use; they are few numbers and learn fast."""


def train(
    showers: Path,
    prepared: Path,
    output: Path,
    *,
    family: str,
    preset: str = "demo",
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    max_minutes: float | None = None,
    checkpoints: Path | None = None,
    watch: Callable[[Generator], None] | None = None,
    looks: int = 0,
) -> dict[str, float]:
    """Train a generator; a killed training goes on when it is called again.

    Several processes that torchrun started train one generator together, the same as one process
    would but for rounding; the first of them writes. It goes on from checkpoints of any number of
    processes.

    Args:
        showers: the shower file that was prepared.
        prepared: folder of the prepared data.
        output: bundle folder to write.
        family: name of the family.
        preset: name of the preset.
        overrides: changes to the preset, see :func:`caloforge.models.presets.resolve`.
        seed: of the first weights and all that follows.
        max_minutes: limit on everything from reading the showers to the last step, over all
            attempts; the learning rate then follows the clock. Weights of a training that is
            limited by time depend on the speed of the machine.
        checkpoints: folder for checkpoints, shared by all processes; beside ``output`` if not
            given. What this training left there is removed at the end.
        watch: is given the generator as it is while its voxels are trained; changes nothing of the
            result, and what it takes does not count against ``max_minutes``.
        looks: how often, at equal shares of the training; the end is none of them.

    Returns:
        Finite numbers: last losses, steps, seconds, parameters.

    Raises:
        InputError: unknown family, preset or override, or data that does not fit.
        TrainingDiverged: the training diverged.
        TrainingInterrupted: SIGTERM came; the state is saved.
    """
    config = resolve(family, preset, overrides)
    if max_minutes is not None and max_minutes <= 0:
        raise InputError(f"max_minutes must be positive, got {max_minutes}")
    with step(f"train {family}"):
        started = time.monotonic()
        data_record = load_prepared(prepared)
        training = open_split(showers, prepared, "train")
        fabric = open_fabric()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = TwoStageGenerator(
                data_record.geometry,
                family_class(family),
                config.model,
                conditions=data_record.conditions,
                energy_range=data_record.energy_range,
                threshold=data_record.threshold,
                transforms=data_record.transforms(),
            )
        network.to(fabric.device)
        n_parameters = sum(p.numel() for p in network.parameters())
        root = checkpoints if checkpoints is not None else output.parent / f".{output.name}.checkpoints"
        folder = root / _fingerprint(config, prepared, seed)
        folder.mkdir(parents=True, exist_ok=True)
        data = TrainingData(training, data_record, folder, seed=seed, fabric=fabric)
        logger.info(
            "%s: %d showers of %d voxels on %s, %.2f million parameters",
            family, len(data), data_record.geometry.n_voxels, _where(fabric),
            n_parameters / 1e6,
        )  # fmt: skip
        limit = None if max_minutes is None else 60 * max_minutes - (time.monotonic() - started)

        def look(energies: nn.Module, voxels: nn.Module) -> None:
            network.energies, network.voxels = energies, voxels  # type: ignore[assignment]
            if watch is not None:
                settings = bundle_config(config, data_record, extrapolation="refuse")
                watch(Generator(network, settings, data_record.geometry))

        stages = _fit_stages(
            network, data, config, folder, fabric, seed=seed, limit=fabric.broadcast(limit),
            look=look, looks=looks if watch else 0,
        )  # fmt: skip
        del data  # no process may have files open in the folder that is removed below
        fabric.barrier()
        network.energies, network.voxels = stages["layer energies"].model, stages["voxels"].model  # type: ignore[assignment]
        record = {
            "config": config.model_dump() | {"model": config.model.model_dump()},
            "max_minutes": max_minutes,
            "device": _device_name(fabric.device),
            "processes": fabric.world_size,
            "threads": torch.get_num_threads(),
            "parameters": n_parameters,
            "stages": {
                name: {"steps": done.steps, "seconds": done.seconds, "losses": done.losses}
                for name, done in stages.items()
            },
            "provenance": provenance(
                inputs={"showers": showers, "transform": prepared / "transform.safetensors"}, seed=seed
            ),
        }
        if fabric.is_global_zero:
            save_bundle(output, network, config, data_record, record=record, extrapolation="refuse")
            shutil.rmtree(folder)
            if not any(root.iterdir()):
                root.rmdir()
        fabric.barrier()
    return training_figures(record)


def _fit_stages(
    network: TwoStageGenerator,
    data: TrainingData,
    config: GeneratorConfig,
    folder: Path,
    fabric: Fabric,
    *,
    seed: int,
    limit: float | None,
    look: Callable[[nn.Module, nn.Module], None],
    looks: int,
) -> dict[str, Fit]:
    training, layers = (_no_larger(batch, len(data)) for batch in (config.training, config.energies))

    def layer_batches(number: int, draws: Draws) -> tuple[Tensor, Tensor]:
        return data.layer_batch(network, number, layers.batch_size, draws)

    def voxel_batches(number: int, draws: Draws) -> tuple[Tensor, Tensor]:
        return data.voxel_batch(network, number, training.batch_size, draws)

    run = partial(fit, seed=seed)
    energies = run(
        network.energies,
        layer_batches,
        layers,
        name=f"{config.family} layer energies",
        seconds=None if limit is None else ENERGY_SHARE * limit,
        checkpoint=folder / "layer_energies.ckpt",
        fabric=fabric,
    )
    voxels = run(
        network.voxels,
        voxel_batches,
        training,
        name=f"{config.family} voxels",
        seconds=None if limit is None else max(1.0, limit - energies.seconds),
        checkpoint=folder / "voxels.ckpt",
        fabric=open_fabric(parts=len(set(network.voxels.parts))),
        watch=partial(look, energies.model),
        looks=looks,
    )
    return {"layer energies": energies, "voxels": voxels}


def _no_larger(config: TrainingConfig, n: int) -> TrainingConfig:
    """Return a training with batches of no more rows than there are."""
    return config.model_copy(update={"batch_size": min(config.batch_size, n)})


def _where(fabric: Fabric) -> str:
    return str(fabric.device) if fabric.world_size == 1 else f"{fabric.world_size} {fabric.device.type} processes"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _fingerprint(config: GeneratorConfig, prepared: Path, seed: int) -> str:
    """Name the checkpoints of one configuration on one data set, so that no other resumes from them."""
    content = json.dumps([config.model_dump(), config.model.model_dump(), seed], sort_keys=True)
    return hashlib.sha256((content + sha256(prepared / "transform.safetensors")).encode()).hexdigest()[:12]
