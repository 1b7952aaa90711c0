"""One trial: the ordinary training with some parameters changed, judged on the validation split."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from caloforge.conditions import Conditions
from caloforge.files import write_json
from caloforge.models.bundle import Generator, load_bundle
from caloforge.models.configuration import TrainingRequest
from caloforge.models.generate import generate
from caloforge.models.training.train import Clock, train
from caloforge.outputs import claim_folder
from caloforge.preprocessing.prepared import load_prepared, open_split
from caloforge.result_kinds import TRIAL
from caloforge.showers import Showers, open_showers, write_showers
from caloforge.steps import step
from caloforge.temporary import scratch_folder
from caloforge.tuning.objective import TrialFailed, check_enough, check_objective, floor_name, measure
from caloforge.validation.validate import headline_figures

logger = logging.getLogger(__name__)

LOOK_SHOWERS = 500
"""So many showers are judged while the training goes on: enough to tell a hopeless trial."""

HEADLINES = {
    "auc": "AUC",
    "auc_low": "voxel AUC",
    "fpd": "FPD",
    "mean_separation": "mean separation",
    "prd_auc_features": "PRD area, features",
    "prd_auc_voxels": "PRD area, voxels",
}
"""Headline metrics that families are compared by and what tables call them; of the last two more is better."""

TIMED_SHOWERS = 1000
"""So many are drawn to know the time for one."""

Report = Callable[[Mapping[str, float]], None]
"""Takes figures as soon as they are known."""


def run_trial(
    request: TrainingRequest,
    *,
    objective: str = "fpd",
    looks: int = 0,
    floors: bool = False,
    clock: Clock = "wall",
    headlines: bool = False,
    report: Report | None = None,
) -> dict[str, float]:
    """Train, generate for the validation split and measure; a stopped training goes on when called again.

    Args:
        request: the training; its ``output`` is the folder of the trial, which gets ``bundle/`` and
            ``trial.json``, its seed is that of generation and metrics too, and its ``max_minutes`` is the same
            for all trials that are to be compared.
        objective: name of the figure that is measured while the training goes on.
        looks: how often, at equal shares of the training; 0 for a trial that is not stopped early.
        floors: measure also what two samples of Geant4 have, the test split against the validation split.
        clock: what ``max_minutes`` are of, see :func:`caloforge.models.training.train.train`.
        headlines: judge at the end by the headline figures of a validation in place of the objectives: on the test
            split, with ``NAME_error``, and the validation split for the floor; ``ms_per_shower`` are of the process.
        report: is given the objective then, of fewer showers than at the end, and all figures at the end.

    Returns:
        The objectives, ``NAME_floor`` of each if they are asked for, then what training and generation say of themselves.

    Raises:
        InputError: wrong names, overrides or data.
        RuntimeError: the training diverged, or a figure is not finite.
    """
    output, seed = request.output, request.seed
    check_objective(objective)
    held_out = "test" if headlines else "validation"
    reference = open_split(Path(request.showers), request.prepared, held_out)
    check_enough(reference)  # before the training
    threshold = load_prepared(request.prepared).threshold
    claim_folder(output, TRIAL)
    few = reference.select(np.linspace(0, len(reference) - 1, min(len(reference), LOOK_SHOWERS), dtype=np.int64))

    def watch(generator: Generator) -> None:
        try:
            figures = _judge(generator, few, output, seed=seed, objective=objective)
        except TrialFailed as error:  # it may yet learn
            logger.warning("%s", error)
            return
        if report is not None:
            report(figures)

    training = request.model_copy(update={"output": output / "bundle"})
    trained = train(training, watch=watch, looks=looks, clock=clock)
    with scratch_folder(output) as scratch:
        sample = scratch / "showers.hdf5"
        made = generate(output / "bundle", reference.conditions, sample, seed=seed)
        with step("measure"):
            if headlines:
                objectives = _headlines(request, reference, open_showers(sample))
                made["ms_per_shower"] = _milliseconds(output / "bundle", reference.conditions)
            else:
                objectives = measure(reference, open_showers(sample), threshold=threshold, seed=seed)
                objectives |= _floors(request, reference, threshold) if floors else {}
    figures = {
        **objectives,
        "ms_per_shower": made["ms_per_shower"],
        **{f"train_{name}": value for name, value in trained.items()},
    }
    write_json(
        output / "trial.json",
        {**request.model_dump(include={"family", "preset", "overrides", "seed"}), "figures": figures},
    )
    if report is not None:
        report(figures)
    return figures


def _headlines(request: TrainingRequest, reference: Showers, generated: Showers) -> dict[str, float]:
    """Return the headline figures with their errors and floors; they are final, and no choice is made by them."""
    floor = open_split(Path(request.showers), request.prepared, "validation")
    found, floors = headline_figures(reference, generated, floor=floor, names=HEADLINES, seed=request.seed)
    figures: dict[str, float] = {}
    for name in HEADLINES:
        figures |= {name: found[name].value, f"{name}_error": found[name].error, floor_name(name): floors[name].value}
    if wrong := [name for name, value in figures.items() if not math.isfinite(value)]:
        raise TrialFailed(f"{wrong[0]} of {generated.path} is {figures[wrong[0]]}")
    return figures


def use_one_thread() -> None:
    """Let this process compute with one thread, as all trials do that are compared by their time."""
    torch.set_num_threads(1)
    threadpool_limits(1)


def _milliseconds(bundle: Path, conditions: Conditions) -> float:
    """Return the time for a shower where many are drawn at once, ms: of the process, or wall-clock time of a GPU."""
    on_gpu = torch.cuda.is_available()
    clock = time.perf_counter if on_gpu else time.process_time
    generator = load_bundle(bundle, device="cuda" if on_gpu else "cpu")
    some = conditions.take(np.arange(min(len(conditions), TIMED_SHOWERS)))
    generator.sample(some.take(slice(0, 100)), seed=0)  # what is made once does not count
    began = clock()
    generator.sample(some, seed=0)
    return 1e3 * (clock() - began) / len(some)


def _floors(request: TrainingRequest, reference: Showers, threshold: float) -> dict[str, float]:
    """Return the objectives of as many showers of the test split; no choice is made by them."""
    second = open_split(Path(request.showers), request.prepared, "test")
    n = min(len(reference), len(second))
    first, second = (
        showers.select(np.linspace(0, len(showers) - 1, n, dtype=np.int64)) for showers in (reference, second)
    )
    found = measure(first, second, threshold=threshold, seed=request.seed)
    return {floor_name(name): value for name, value in found.items()}


def _judge(generator: Generator, reference: Showers, output: Path, *, seed: int, objective: str) -> dict[str, float]:
    """Return the objective of a generator that is still being trained."""
    with scratch_folder(output) as scratch:
        sample = scratch / "showers.hdf5"
        attributes = {"energy_threshold": generator.threshold, "source": f"caloforge {generator.family}"}
        with write_showers(sample, generator.geometry, attributes=attributes, provenance={}) as writer:
            writer.append(reference.conditions, generator.sample(reference.conditions, seed=seed))
        return measure(reference, open_showers(sample), threshold=generator.threshold, seed=seed, names=[objective])
