"""The whole pipeline on this machine: demo and run."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caloforge.cli.group import main
from caloforge.cli.options import (
    PATH,
    PLACE,
    data_option,
    geometry_option,
    minutes_option,
    output_option,
    overwrite_option,
    particle_option,
    seed_option,
    test_option,
    threshold_option,
)

if TYPE_CHECKING:
    from caloforge.pipelines.local.run import LocalRun


@main.command(example="caloforge demo -o my-demo")
@click.option("-o", "--output", type=PLACE, default=Path("caloforge-demo"), show_default=True, help="Folder to write.")
@seed_option
def demo(output: Path, seed: int) -> None:
    """Run the whole pipeline on the bundled showers. After a stop, run it again to go on."""
    from caloforge.pipelines.local.run import run_local
    from caloforge.pipelines.settings import PipelineSettings

    with as_file(files("caloforge") / "data" / "demo_showers.hdf5") as data:
        # The preset's steps take less than this on two slow cores; a slower machine stops at the limit.
        _summarise(run_local(data, output, settings=PipelineSettings(seed=seed, max_minutes=5, optimise=None)))


@main.command(
    example="caloforge run --data dataset_2_1.hdf5 -o runs/first --families vae,coupling_flow --max-minutes 20",
    goes_on=True,
)
@partial(data_option, required=False)
@test_option
@geometry_option
@particle_option
@output_option("Folder")
@overwrite_option
@threshold_option
@click.option(
    "--families", metavar="A,B,...", help="Generator families to train; without it tree, coupling_flow and vae."
)
@click.option("--preset", metavar="demo|full", help="Size of the generators and of their training.")
@minutes_option
@click.option("--tune-trials", type=click.IntRange(min=0), help="Trials of a search before each family's training.")
@click.option("--seed", type=click.IntRange(0, 2**53 - 1), help="Same seed, same result.")
@click.option("--settings", "settings_file", type=PATH, help="YAML of pipeline settings; options go before it.")
def run(
    data: tuple[str, ...],
    test: tuple[str, ...],
    geometry: str | None,
    particle: str | None,
    output: Path,
    overwrite: bool,
    threshold: float | None,
    families: str | None,
    preset: str | None,
    max_minutes: float | None,
    tune_trials: int | None,
    seed: int | None,
    settings_file: Path | None,
) -> None:
    """Run the whole pipeline on showers. After a stop, run it again to go on."""
    from caloforge.alone import alone
    from caloforge.fetch import paths_of
    from caloforge.pipelines.local.run import claim, run_local
    from caloforge.pipelines.settings import PipelineSettings
    from caloforge.preprocessing.sample import is_one_file, one_file
    from caloforge.showers import open_showers

    settings = PipelineSettings.from_yaml(settings_file) if settings_file else PipelineSettings()
    options = {
        "families": [name.strip() for name in families.split(",")] if families is not None else None,
        "preset": preset,
        "max_minutes": max_minutes,
        "tuning": {**settings.tuning.model_dump(), "trials": tune_trials} if tune_trials is not None else None,
        "seed": seed,
        "prepare": {**settings.prepare.model_dump(), "threshold": threshold} if threshold is not None else None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    settings = PipelineSettings.parse({**settings.model_dump(), **given}, where="options")
    test = test or settings.test
    inputs = paths_of(*data, *test, geometry, settings_file)
    simulates = settings.simulate is not None and not data
    if not data and not simulates:
        raise click.UsageError("Missing option '--data'; or give --settings with simulate.")
    mark = simulates or not is_one_file(data, test)  # what is fetched, converted or simulated goes there
    claim(output, inputs=inputs, overwrite=overwrite, mark=mark)
    with alone(output) if mark else nullcontext():
        if settings.simulate is not None and simulates:
            showers, mesh = settings.simulate.run_once(output / "data", seed=settings.seed), None
        else:
            showers = one_file(data, output / "data", test=test, geometry=geometry, particle=particle).path
            mesh = open_showers(showers, geometry, particle=particle).geometry if particle else geometry
        _summarise(run_local(showers, output, geometry=mesh, settings=settings, overwrite=overwrite))


def _summarise(result: LocalRun) -> None:
    from caloforge.validation.report.leaderboard import leaderboard_markdown

    click.echo(leaderboard_markdown(result.leaderboard))
    click.echo(f"report:    {result.output / 'report.html'}")
    click.echo(f"generator: {result.output / 'bundle'}")
