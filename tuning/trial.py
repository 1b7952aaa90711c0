"""One trial: the ordinary training with some parameters changed, judged on the validation split."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from caloforge.files import write_json
from caloforge.models.bundle import Generator
from caloforge.models.configuration import TrainingRequest
from caloforge.models.generate import generate
from caloforge.models.training.train import train
from caloforge.outputs import claim_folder
from caloforge.preprocessing.prepared import load_prepared, open_split
from caloforge.result_kinds import TRIAL
from caloforge.showers import Showers, open_showers, write_showers
from caloforge.steps import step
from caloforge.temporary import scratch_folder
from caloforge.tuning.objective import TrialFailed, check_objective, floor_name, measure

logger = logging.getLogger(__name__)

LOOK_SHOWERS = 500
"""So many showers are judged while the training goes on: enough to tell a hopeless trial."""

Report = Callable[[Mapping[str, float]], None]
"""Takes figures as soon as they are known."""


def run_trial(
    request: TrainingRequest,
    *,
    objective: str = "fpd",
    looks: int = 0,
    floors: bool = False,
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
        report: is given the objective then, of fewer showers than at the end, and all figures at the end.

    Returns:
        The objectives, ``NAME_floor`` of each if they are asked for, then what training and generation say of themselves.

    Raises:
        InputError: wrong names, overrides or data.
        RuntimeError: the training diverged, or a figure is not finite.
    """
    output, seed = request.output, request.seed
    check_objective(objective)
    reference = open_split(Path(request.showers), request.prepared, "validation")
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
    trained = train(training, watch=watch, looks=looks)
    with scratch_folder(output) as scratch:
        sample = scratch / "showers.hdf5"
        made = generate(output / "bundle", reference.conditions, sample, seed=seed)
        with step("measure"):
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
