"""Fast showers corrected: refine."""

from __future__ import annotations

from pathlib import Path

import click

from caloforge.cli.figures import print_figures
from caloforge.cli.group import main
from caloforge.cli.inputs import read_settings, shower_input
from caloforge.cli.options import (
    PATH,
    data_option,
    geometry_option,
    minutes_option,
    output_option,
    overwrite_option,
    particle_option,
    seed_option,
    showers_option,
    steps_option,
)
from caloforge.outputs import check_file
from caloforge.result_kinds import REFINEMENT


@main.command(
    example="caloforge refine --data fast.hdf5 --full geant4.hdf5 --max-minutes 5 -o refinement\n"
    "caloforge refine --data more_fast.hdf5 --refiner refinement/refiner -o refined.hdf5"
)
@data_option
@showers_option("--full", "Showers of the full simulation to learn from.")
@click.option("--refiner", type=PATH, metavar="FOLDER", help="Trained before: corrects --data and does nothing else.")
@geometry_option
@particle_option
@click.option("--overrides", type=PATH, help="YAML of settings of the corrector.")
@minutes_option
@steps_option
@seed_option
@output_option("Folder, or with --refiner HDF5 file,")
@overwrite_option
def refine(
    data: tuple[str, ...],
    full: str | None,
    refiner: Path | None,
    geometry: str | None,
    particle: str | None,
    overrides: Path | None,
    max_minutes: float | None,
    steps: int | None,
    seed: int,
    output: Path,
    overwrite: bool,
) -> None:
    """Correct the showers of a fast simulation towards full ones, and weigh them. After a stop, run it again to go on."""
    if (full is None) == (refiner is None):
        raise click.UsageError("give either --full SHOWERS to learn from or --refiner FOLDER that has learnt")
    if refiner is not None and (overrides or max_minutes):
        raise click.UsageError("--refiner has learnt already: --overrides and --max-minutes go with --full")
    if full is not None and steps is not None:
        raise click.UsageError("--steps goes with --refiner; with --full it is sampler.steps of the --overrides")
    from caloforge.showers import open_showers

    if refiner is not None:
        check_file(output)
        from caloforge.models.refine import refine as refine_showers

        found = open_showers(
            shower_input(*data, geometry=geometry, particle=particle).path, geometry, particle=particle
        )
        print_figures(refine_showers(refiner, found, output, seed=seed, steps=steps), beside=output)
        return
    from caloforge.outputs import check_claim
    from caloforge.validation.refinement import refine_against, refinement_markdown

    check_claim(output, REFINEMENT, overwrite=overwrite)
    target, fast = (
        open_showers(shower_input(*given, geometry=geometry, particle=particle).path, geometry, particle=particle)
        for given in ((full,), data)
    )
    result = refine_against(
        target, fast, output, overrides=read_settings(overrides) if overrides else None, max_minutes=max_minutes or None,
        seed=seed, overwrite=overwrite,
    )  # fmt: skip
    click.echo(refinement_markdown(result))
    click.echo(f"wrote {output / 'refined.hdf5'}, {output / 'weights.hdf5'} and {output / 'report' / 'report.html'}")
