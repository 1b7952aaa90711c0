"""Shower files of other formats: convert and inspect."""

from __future__ import annotations

from pathlib import Path

import click

from caloforge.cli.figures import print_figures, say
from caloforge.cli.group import main
from caloforge.cli.inputs import fetch_input, read_conditions
from caloforge.cli.options import (
    ADDRESS,
    PLACE,
    ca_cert_option,
    condition_option,
    geometry_option,
    output_option,
    particle_option,
    test_option,
)
from caloforge.outputs import check_file
from caloforge.preprocessing.registries import READERS

sources_argument = click.argument("sources", type=ADDRESS, metavar="SOURCE...", nargs=-1, required=True)
format_option = click.option(
    "--format", "form", metavar="NAME",
    help=f"One of {', '.join(READERS.names)}; without it the one that the files are recognised as.",
)  # fmt: skip


@main.command(
    example="caloforge convert showers_1.hdf5 showers_2.hdf5 -o showers.hdf5\n"
    "caloforge convert photons.hdf5 --condition particle=gamma -o labelled.hdf5"
)
@sources_argument
@test_option
@format_option
@geometry_option
@particle_option
@condition_option
@ca_cert_option
@output_option("HDF5 file")
def convert(
    sources: tuple[str, ...],
    test: tuple[str, ...],
    form: str | None,
    geometry: str | None,
    particle: str | None,
    words: tuple[str, ...],
    output: Path,
) -> None:
    """Write shower files of any known format, or folders of them, as one CaloChallenge HDF5 file in MeV."""
    check_file(output)
    conditions = read_conditions(words)
    from caloforge.preprocessing.convert import convert as convert_showers
    from caloforge.preprocessing.readers.find import expanded

    paths = [fetch_input(address).path for source in sources for address in expanded(source)]
    judged = [fetch_input(address).path for source in test for address in expanded(source)]
    figures = convert_showers(
        paths, output, test=judged, form=form, geometry=geometry, particle=particle, conditions=conditions
    )
    print_figures(figures, beside=output)


@main.command(example="caloforge inspect showers.hdf5 --picture mean.png")
@sources_argument
@format_option
@geometry_option
@particle_option
@click.option("--picture", type=PLACE, metavar="PNG", help="Draw the mean shower into this file.")
@ca_cert_option
def inspect(
    sources: tuple[str, ...], form: str | None, geometry: str | None, particle: str | None, picture: Path | None
) -> None:
    """Say what shower files are: format, geometry, conditions, occupancy, response, problems."""
    from caloforge.preprocessing.convert import inspect as inspect_showers
    from caloforge.preprocessing.readers.find import expanded

    paths = [fetch_input(address).path for source in sources for address in expanded(source)]
    said = inspect_showers(paths, form=form, geometry=geometry, particle=particle, picture=picture)
    for name, text in said.items():
        say(f"{name + ':':<17}{text}", beside=None)
