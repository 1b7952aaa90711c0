"""Train one family on prepared showers and write its bundle."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import nn

from caloforge.alone import alone
from caloforge.draws import Draws
from caloforge.errors import InputError
from caloforge.files import sha256
from caloforge.models.bundle import Generator, bundle_config, save_bundle
from caloforge.models.configuration import TrainingConfig, TrainingRequest
from caloforge.models.energies import EnergiesModel, load_energies, state_digest
from caloforge.models.family import DataSpec, Family, Stage
from caloforge.models.likelihood.calibration import calibrate
from caloforge.models.presets import resolve
from caloforge.models.registries import FAMILIES
from caloforge.models.training.data import TrainingData
from caloforge.models.training.fabric import open_fabric
from caloforge.models.training.loop import Fit, fit
from caloforge.models.training.record import training_figures
from caloforge.outputs import check_folder
from caloforge.preprocessing.prepared import Prepared, load_prepared, open_split
from caloforge.provenance import provenance
from caloforge.result_kinds import BUNDLE
from caloforge.steps import step

logger = logging.getLogger(__name__)

ENDING_SECONDS = 20
"""How long the training of a killed run or search may still write to its checkpoints."""

Clock = Literal["wall", "cpu"]


def train(
    request: TrainingRequest,
    *,
    watch: Callable[[Generator], None] | None = None,
    looks: int = 0,
    clock: Clock = "wall",
) -> dict[str, float]:
    """Train a generator; a killed training goes on when it is called again.

    Several processes that torchrun started train one generator together, the same as one process
    would but for rounding; the first of them writes. It goes on from checkpoints of any number of
    processes.

    Args:
        request: what to train, on what, how, and where to.
        watch: is given the generator as it is while its last stage is trained; changes nothing of the
            result, and what it takes does not count against ``max_minutes``.
        looks: how often, at equal shares of the training; the end is none of them.
        clock: what ``max_minutes`` are of: ``wall``, or ``cpu``, the time of all threads of this process, of which
            neighbours on the same cores take nothing. A training on a GPU is limited by ``wall`` in any case.

    Returns:
        Finite numbers: last losses, steps, seconds, parameters.

    Raises:
        InputError: unknown family, preset or override, or data or layer energies that do not fit.
        TrainingDiverged: the training diverged.
        TrainingInterrupted: SIGTERM came; the state is saved.
    """
    config = resolve(request.family, request.preset, request.overrides)
    check_minutes(request.max_minutes)
    inputs = [Path(request.showers), request.prepared, *([request.energies] if request.energies else [])]
    output = check_folder(request.output, BUNDLE, inputs=inputs, overwrite=request.overwrite)
    with step(f"train {request.family}"), ExitStack() as stack:
        fabric = open_fabric()
        # What a GPU computes is no time of the process.
        tell = time.process_time if clock == "cpu" and fabric.device.type == "cpu" else time.monotonic
        started = tell()
        prepared = load_prepared(request.prepared)
        given = given_energies(request, prepared)
        training = open_split(Path(request.showers), request.prepared, "train")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            kind = FAMILIES.get(request.family)
            family = kind(config, data_spec(prepared, transforms=kind.uses_transforms))
        if given is not None:
            family.get_submodule("energies").load_state_dict(given.state)
        root = request.checkpoints or output.parent / f".{output.name}.checkpoints"
        if fabric.is_global_zero:
            stack.enter_context(alone(root, shown=request.output, patience=ENDING_SECONDS))
        folder = root / fingerprint([config.model_dump(), request.seed, given and given.sha256], request.prepared)
        folder.mkdir(parents=True, exist_ok=True)
        data = TrainingData(training, prepared, folder, seed=request.seed, fabric=fabric)
        logger.info(
            "%s: %d showers of %d voxels on %s, %.2f million parameters",
            request.family, len(data), prepared.geometry.n_voxels, _where(fabric), _parameters(family) / 1e6,
        )  # fmt: skip
        limit = None if request.max_minutes is None else 60 * request.max_minutes - (tell() - started)
        family.begin(data)  # on the CPU, as the chunks that it reads
        family.to(fabric.device)

        def look() -> None:
            if watch is not None:
                settings = bundle_config(config, prepared, family, energies={}, extrapolation="refuse")
                watch(Generator(family, settings, prepared.geometry))

        wanted = {name: stage for name, stage in family.stages().items() if given is None or name != "energies"}
        stages = fit_stages(
            family, wanted, data, folder, fabric, name=request.family, seed=request.seed,
            limit=fabric.broadcast(limit), look=look, looks=looks if watch else 0, clock=tell,
        )  # fmt: skip
        del data  # no process may have files open in the folder that is removed below
        fabric.barrier()
        energies = energies_record(family, given)
        record = {
            "config": config.model_dump(),
            "max_minutes": request.max_minutes,
            "clock": clock,
            "energies": energies,
            **training_record(family, stages, fabric),
            "provenance": provenance(
                inputs={"showers": Path(request.showers), "transform": request.prepared / "transform.safetensors"},
                seed=request.seed,
            ),
        }
        if fabric.is_global_zero:
            save_bundle(
                request.output, family, config, prepared, record=record, extrapolation="refuse",
                likelihood=calibrate(family, open_split(Path(request.showers), request.prepared, "validation")),
                overwrite=request.overwrite,
            )  # fmt: skip
            shutil.rmtree(folder)
            remove_empty(root)
        fabric.barrier()
    return training_figures(record)


def remove_empty(folder: Path) -> None:
    """Remove a folder of checkpoints unless another training has something there."""
    with suppress(OSError):
        folder.rmdir()


def check_minutes(max_minutes: float | None) -> None:
    """Refuse a time limit that nothing can be trained in.

    Raises:
        InputError: it is not positive.
    """
    if max_minutes is not None and max_minutes <= 0:
        raise InputError(f"max_minutes must be positive, got {max_minutes}")


def given_energies(request: TrainingRequest, prepared: Prepared) -> EnergiesModel | None:
    """Return the layer energies that a training was given, None if it trains its own or has none.

    Raises:
        InputError: the family has no use for them, or they do not fit the data.
    """
    if request.energies is None:
        return None
    if not FAMILIES.get(request.family).uses_layer_energies:
        raise InputError(f"family {request.family!r} draws layer energies itself; leave out the trained ones")
    model = load_energies(request.energies)
    model.check_fits(prepared)
    return model


def energies_record(family: Family, given: EnergiesModel | None) -> dict[str, Any]:
    """Return which layer energies a generator stands on; the same weights have the same checksum. Empty: none."""
    if not family.uses_layer_energies:
        return {}
    return {"sha256": state_digest(family.get_submodule("energies")), "given": given is not None}


def data_spec(prepared: Prepared, *, transforms: bool) -> DataSpec:
    """Return what a generator must know of the data, with the fitted codings if it uses them."""
    codings = prepared.transforms() if transforms else None
    return DataSpec(prepared.geometry, prepared.domains, prepared.threshold, codings)


def training_record(family: nn.Module, stages: Mapping[str, Fit], fabric: Fabric) -> dict[str, Any]:
    """Return what a training says of itself: device, processes, sizes, steps, seconds, losses."""
    return {
        "device": _device_name(fabric.device),
        "processes": fabric.world_size,
        "threads": torch.get_num_threads(),
        "parameters": _parameters(family),
        "stages": {
            name: {"steps": done.steps, "seconds": done.seconds, "losses": done.losses} for name, done in stages.items()
        },
    }


def fit_stages(
    owner: nn.Module,
    stages: Mapping[str, Stage],
    data: TrainingData,
    folder: Path,
    fabric: Fabric,
    *,
    name: str,
    seed: int,
    limit: float | None,
    look: Callable[[], None] = lambda: None,
    looks: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Fit]:
    """Train stages one after the other, each in its share of the time.

    Args:
        owner: has the submodules that the stages train, and gets them with averaged weights in place.
        stages: name of the submodule to how it is trained.
        data: the training showers.
        folder: for checkpoints.
        fabric: device, precision and processes.
        name: of what is trained, for the log.
        seed: of all random numbers.
        limit: seconds for all of them, None for none.
        look: is called while the last stage is trained, with its weights in place.
        looks: how often.
        clock: tells the seconds that the limit is of.

    Returns:
        Title of each stage that was trained to how it went.
    """
    done: dict[str, Fit] = {}
    left_to_do = list(stages)
    for place, stage in stages.items():
        model: Any = owner.get_submodule(place)
        training = no_larger(stage.training, len(data))
        last = len(left_to_do) == 1
        seconds = None
        if limit is not None:
            share = stage.share / sum(stages[other].share for other in left_to_do)
            seconds = max(0.5, share * (limit - sum(fitted.seconds for fitted in done.values())))
        title = stage.title or place.replace("_", " ")
        # Different parts of a model take turns; the processes must know that the others rest.
        parts = len(set(model.parts))
        fitted = fit(
            model,
            _batches(stage, data, training.batch_size),
            training,
            name=f"{name} {title}",
            seed=seed,
            seconds=seconds,
            checkpoint=folder / f"{place}.ckpt",
            fabric=open_fabric(parts=parts, exact=model.exact) if parts > 1 or model.exact else fabric,
            watch=partial(_place_and_look, owner, place, look) if last else None,
            looks=looks if last else 0,
            clock=clock,
        )
        owner.add_module(place, fitted.model)
        done[title] = fitted
        left_to_do.remove(place)
    return done


def _place_and_look(owner: nn.Module, place: str, look: Callable[[], None], averaged: nn.Module) -> None:
    owner.add_module(place, averaged)
    look()


def _batches(stage: Stage, data: TrainingData, size: int) -> Callable[[int, Draws], Any]:
    return lambda number, draws: stage.batch(data, number, size, draws)


def no_larger(config: TrainingConfig, n: int) -> TrainingConfig:
    """Return a training with batches of no more rows than there are."""
    return config.model_copy(update={"batch_size": min(config.batch_size, n)})


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _where(fabric: Fabric) -> str:
    return str(fabric.device) if fabric.world_size == 1 else f"{fabric.world_size} {fabric.device.type} processes"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def fingerprint(content: Any, prepared: Path) -> str:
    """Name the checkpoints of one configuration on one data set, so that no other resumes from them."""
    text = json.dumps(content, sort_keys=True) + sha256(prepared / "transform.safetensors")
    return hashlib.sha256(text.encode()).hexdigest()[:12]
