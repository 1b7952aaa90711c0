"""Choices compared: ablate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from caloforge.cli.group import main
from caloforge.cli.inputs import read_settings, trials_address
from caloforge.cli.options import (
    MINUTES,
    PATH,
    backend_option,
    output_option,
    overwrite_option,
    prepared_option,
    sample_options,
    seed_option,
    trial_pod_option,
)
from caloforge.place import place
from caloforge.result_kinds import ABLATION


@main.command(
    example="caloforge ablate --data showers.hdf5 --family vae --vary preprocessing.voxel_scaling=quantile,logit,power "
    "--vary training.weight_decay=0,1e-4,1e-2 --max-minutes 3 -o ablation",
    goes_on=True,
)
@sample_options
@prepared_option
@click.option("--family", required=True, help="Generator family.")
@click.option("--preset", metavar="demo|full", default="demo", show_default=True, help="Size of the training.")
@click.option(
    "--vary", multiple=True, required=True, metavar="PATH=VALUE,...",
    help="Setting of the family, or preprocessing.NAME, and what to try; may be repeated.",
)  # fmt: skip
@click.option("--seeds", type=click.IntRange(min=2), default=3, show_default=True, help="Trainings of each choice.")
@click.option("--overrides", type=PATH, help="YAML of settings that all choices have.")
@click.option("--max-minutes", type=MINUTES, help="Bound of each training.")
@click.option("--parallel", type=click.IntRange(min=1), default=1, show_default=True, help="Trainings at a time.")
@seed_option
@backend_option(("local", "katib", "auto"), "Subprocesses, Katib", default="local")
@trial_pod_option
@output_option("Folder")
@overwrite_option
def ablate(
    data: tuple[str, ...],
    test: tuple[str, ...],
    geometry: str | None,
    particle: str | None,
    prepared: str | None,
    family: str,
    preset: str,
    vary: tuple[str, ...],
    seeds: int,
    overrides: Path | None,
    max_minutes: float | None,
    parallel: int,
    seed: int,
    backend: Any,
    pod_file: Path | None,
    output: Path,
    overwrite: bool,
) -> None:
    """Compare settings, one changed at a time, at equal budget. After a stop, run it again to go on."""
    from caloforge.models.presets import check_names

    check_names(family, preset)  # before the seconds that importing torch takes
    from caloforge.tuning.ablate import ABLATE_BACKENDS
    from caloforge.tuning.ablate import ablate as ablate_family
    from caloforge.tuning.ablation import ablation_markdown
    from caloforge.tuning.experiment import TrialPod

    address = trials_address(
        data,
        test,
        cluster=place(backend, ABLATE_BACKENDS) == "cluster",
        output=output,
        kind=ABLATION,
        overwrite=overwrite,
    )
    result = ablate_family(
        address, output, family=family, vary=vary, seeds=seeds, preset=preset,
        overrides=read_settings(overrides) if overrides else None, geometry=geometry, particle=particle,
        prepared=prepared, parallel=parallel, max_minutes=max_minutes or None, seed=seed, backend=backend,
        pod=TrialPod.from_yaml(pod_file) if pod_file else None, overwrite=overwrite,
    )  # fmt: skip
    click.echo(ablation_markdown(result))
    click.echo(f"wrote {output / 'ablation.md'} and {output / 'ablation.png'}")
