"""Generators trained: train, train-energies, tune and trial."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from caloforge.cli.figures import print_figures, print_figures_with_time
from caloforge.cli.group import main
from caloforge.cli.inputs import read_settings, shower_address, shower_input, trials_address
from caloforge.cli.options import (
    ADDRESS,
    MINUTES,
    PATH,
    PLACE,
    backend_option,
    budget_minutes,
    data_option,
    minutes_option,
    output_option,
    overwrite_option,
    prepared_option,
    sample_options,
    seed_option,
    test_option,
    trial_pod_option,
)
from caloforge.logs import first_process
from caloforge.outputs import check_folder, claim_folder
from caloforge.place import TRAIN_BACKENDS, TUNE_BACKENDS, place
from caloforge.result_kinds import BUNDLE, ENERGIES, TRIAL, TUNING


@main.command(example="caloforge train --data showers.hdf5 --prepared prepared --family vae --max-minutes 5 -o vae")
@data_option
@test_option
@click.option("--prepared", type=PATH, required=True, help="Folder that `caloforge preprocess` wrote.")
@click.option("--family", required=True, help="Generator family.")
@click.option("--preset", metavar="demo|full", default="demo", show_default=True, help="Size of the training.")
@click.option("--overrides", type=PATH, help="YAML of settings on top of the preset.")
@minutes_option
@click.option("--energies", type=PATH, help="Folder that `caloforge train-energies` wrote; without it trained within.")
@click.option("--checkpoints", type=PLACE, help="Folder from which a stopped training goes on.")
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True, help="Processes for each node.")
@click.option("--nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Pods of a cluster.")
@backend_option(TRAIN_BACKENDS, "torchrun, a TrainJob")
@click.option("--pod", "pod_file", type=PATH, help="YAML of what each node gets on a cluster: image, claims, ...")
@seed_option
@output_option("Bundle")
@overwrite_option
def train(
    data: tuple[str, ...],
    test: tuple[str, ...],
    prepared: Path,
    family: str,
    preset: str,
    overrides: Path | None,
    max_minutes: float | None,
    energies: Path | None,
    checkpoints: Path | None,
    processes: int,
    nodes: int,
    backend: str,
    pod_file: Path | None,
    seed: int,
    output: Path,
    overwrite: bool,
) -> None:
    """Train one generator; prints its figures as name=value."""
    from caloforge.models.presets import check_names

    check_names(family, preset)  # before the seconds that importing torch takes
    check_folder(output, BUNDLE, overwrite=overwrite)
    from caloforge.models.configuration import TrainingRequest
    from caloforge.models.training.distributed import train_distributed
    from caloforge.models.training.pod import TrainingPod

    request = TrainingRequest(
        showers=shower_address(data, test), prepared=prepared, output=output, family=family, preset=preset,
        overrides=read_settings(overrides) if overrides else {}, seed=seed, max_minutes=max_minutes or None,
        energies=energies, checkpoints=checkpoints, overwrite=overwrite,
    )  # fmt: skip
    pod = TrainingPod.from_yaml(pod_file) if pod_file else None
    figures = train_distributed(request, processes=processes, nodes=nodes, backend=backend, pod=pod)
    if first_process():
        print_figures(figures)


@main.command(
    "train-energies", example="caloforge train-energies --data showers.hdf5 --prepared prepared --seed 1 -o energies"
)
@data_option
@test_option
@click.option("--prepared", type=PATH, required=True, help="Folder that `caloforge preprocess` wrote.")
@click.option("--preset", metavar="demo|full", default="demo", show_default=True, help="Size of the training.")
@click.option("--overrides", type=PATH, help="YAML of settings on top of the preset's `energies`.")
@minutes_option
@seed_option
@output_option("Folder")
@overwrite_option
def train_energies_(
    data: tuple[str, ...],
    test: tuple[str, ...],
    prepared: Path,
    preset: str,
    overrides: Path | None,
    max_minutes: float | None,
    seed: int,
    output: Path,
    overwrite: bool,
) -> None:
    """Train the layer energies once, for all families that draw them first."""
    check_folder(output, ENERGIES, overwrite=overwrite)
    from caloforge.models.training.energies import train_energies

    figures = train_energies(
        shower_input(*data, test=test).path, prepared, output, preset=preset, overrides=read_settings(overrides) if overrides else None,
        seed=seed, max_minutes=max_minutes or None, overwrite=overwrite,
    )  # fmt: skip
    if first_process():
        print_figures(figures)


@main.command(
    example="caloforge tune --data showers.hdf5 --family vae --trials 20 --parallel 2 --max-minutes 3 --seed 1 -o tuned",
    goes_on=True,
)
@sample_options
@click.option("--family", required=True, help="Generator family.")
@click.option("--preset", metavar="demo|full", default="demo", show_default=True, help="What trials start from.")
@click.option("--trials", type=click.IntRange(min=1), required=True, help="Number of trials.")
@click.option("--parallel", type=click.IntRange(min=1), default=1, show_default=True, help="Trials at a time.")
@click.option("--algorithm", default="tpe", show_default=True, help="Search algorithm: random, tpe, grid, cmaes, ...")
@click.option("--objective", metavar="fpd|auc|kpd", default="fpd", show_default=True, help="What to minimise.")
@click.option("--space", type=PATH, help="YAML of parameters and their ranges; without it the family's own.")
@click.option("--overrides", type=PATH, help="YAML of settings that all trials have and that are not searched.")
@click.option("--max-minutes", type=MINUTES, help="Bound of each trial's training.")
@click.option("--timeout-minutes", type=MINUTES, help="Bound of the search; the best until then wins.")
@click.option("--early-stopping", is_flag=True, help="End trials that are worse than the median at the same point.")
@seed_option
@backend_option(TUNE_BACKENDS, "Subprocesses, a cluster", default="local")
@trial_pod_option
@output_option("Folder")
@overwrite_option
def tune(
    data: tuple[str, ...],
    test: tuple[str, ...],
    geometry: str | None,
    particle: str | None,
    family: str,
    preset: str,
    trials: int,
    parallel: int,
    algorithm: str,
    objective: str,
    space: Path | None,
    overrides: Path | None,
    max_minutes: float | None,
    timeout_minutes: float | None,
    early_stopping: bool,
    seed: int,
    backend: Any,
    pod_file: Path | None,
    output: Path,
    overwrite: bool,
) -> None:
    """Search for the best parameters of a family. After a stop, run it again to go on."""
    from caloforge.models.presets import check_names

    check_names(family, preset)  # before the seconds that importing torch takes
    from caloforge.tuning.experiment import TrialPod
    from caloforge.tuning.result import tuning_markdown
    from caloforge.tuning.tune import tune as tune_family

    address = trials_address(
        data, test, cluster=place(backend, TUNE_BACKENDS) == "cluster", output=output, kind=TUNING, overwrite=overwrite
    )
    result = tune_family(
        address, output, geometry=geometry, particle=particle, family=family, preset=preset, trials=trials, parallel=parallel,
        algorithm=algorithm, objective=objective, space=space, overrides=read_settings(overrides) if overrides else None,
        max_minutes=max_minutes or None, timeout_minutes=timeout_minutes or None, early_stopping=early_stopping,
        seed=seed, backend=backend, pod=TrialPod.from_yaml(pod_file) if pod_file else None,
        overwrite=overwrite,
    )  # fmt: skip
    click.echo(tuning_markdown(result))
    click.echo(f"best parameters: {output / 'overrides.json'}")


@main.command(
    example="caloforge trial --data showers.hdf5 --prepared prepared --family vae --set training.learning_rate=1e-3 -o trial",
    goes_on=True,
)
@sample_options
@prepared_option
@click.option(
    "--energies",
    type=ADDRESS,
    metavar="FOLDER|URI",
    help="Folder that `caloforge train-energies` wrote; without it trained within.",
)
@click.option("--family", required=True, help="Generator family.")
@click.option("--preset", metavar="demo|full", default="demo", show_default=True, help="What the trial starts from.")
@click.option(
    "--set", "settings", multiple=True, metavar="PATH=VALUE",
    help="Parameter of the family, or preprocessing.NAME; may be repeated. FAMILY:PATH=VALUE is for that family alone.",
)  # fmt: skip
@minutes_option
@click.option("--objective", metavar="fpd|auc|kpd", default="fpd", show_default=True, help="What --looks are for.")
@click.option("--looks", type=click.IntRange(min=0), default=0, help="How often it is judged while it trains.")
@click.option("--floors", is_flag=True, help="Measure also Geant4 against itself.")
@click.option("--split-seed", type=click.IntRange(0, 2**53 - 1), help="Seed of the split; without it that of all else.")
@click.option(
    "--budget", type=budget_minutes, metavar="TIME",
    help="CPU time (on a GPU: time) that alone ends the training, e.g. 20m; the trial is then judged on the test split "
    "by the headline figures of a validation, as compare-families does.",
)  # fmt: skip
@seed_option
@output_option("Folder")
@overwrite_option
def trial(
    data: tuple[str, ...],
    test: tuple[str, ...],
    geometry: str | None,
    particle: str | None,
    prepared: str | None,
    energies: str | None,
    family: str,
    preset: str,
    settings: tuple[str, ...],
    max_minutes: float | None,
    objective: str,
    looks: int,
    floors: bool,
    split_seed: int | None,
    budget: float | None,
    seed: int,
    output: Path,
    overwrite: bool,
) -> None:
    """Train once with some parameters and judge on the validation split, as a tuning does."""
    from caloforge.models.presets import check_names

    check_names(family, preset)  # before the seconds that importing torch takes
    from caloforge.fetch import local_copy
    from caloforge.models.configuration import TrainingRequest
    from caloforge.models.presets import endless, resolve
    from caloforge.preprocessing.sample import one_file
    from caloforge.runner import end_with_runner
    from caloforge.tuning.choices import changed_settings
    from caloforge.tuning.optimization_job import assigned
    from caloforge.tuning.space import nest, of_family, parse_value
    from caloforge.tuning.trial import run_trial, use_one_thread
    from caloforge.tuning.trial_data import prepare_changed, prepare_once

    end_with_runner()
    pairs = [setting.partition("=") for setting in of_family(settings, family)]
    if wrong := [path for path, sign, _ in pairs if not sign]:
        raise click.UsageError(f"--set {wrong[0]!r}: expected PATH=VALUE")
    values = {path: parse_value(value) for path, _, value in pairs}
    if len(values) < len(pairs):
        raise click.UsageError("--set: a parameter is given twice")
    values |= assigned(os.environ)
    changes, values = changed_settings(values)
    if budget is not None and (max_minutes or looks or floors):
        raise click.UsageError("--budget goes without --max-minutes, --looks and --floors")
    overrides = nest(values)
    if budget is not None:
        overrides = endless(family, preset, overrides)
        use_one_thread()
    resolve(family, preset, overrides)  # before the showers are read
    claim_folder(output, TRIAL, overwrite=overwrite)
    showers = one_file(data, output / "data", test=test, geometry=geometry, particle=particle).path
    if prepared is not None:
        folder = local_copy(prepared, output / "data")
    else:
        of_split = seed if split_seed is None else split_seed
        folder = prepare_once(showers, output / "prepared", geometry=geometry, particle=particle, seed=of_split)
    if changes:
        folder = prepare_changed(showers, folder, output / "changed", changes=changes)
    request = TrainingRequest(
        showers=showers, prepared=folder, output=output, family=family, preset=preset, overrides=overrides,
        seed=seed, max_minutes=budget or max_minutes or None,
        energies=None if energies is None else local_copy(energies, output / "data"),
    )  # fmt: skip
    run_trial(
        request, objective=objective, looks=looks, floors=floors, clock="wall" if budget is None else "cpu",
        headlines=budget is not None, report=print_figures_with_time,
    )  # fmt: skip
