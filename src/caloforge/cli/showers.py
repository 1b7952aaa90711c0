"""Showers in and judged: preprocess, generate and validate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from caloforge.cli.figures import print_figures
from caloforge.cli.group import main
from caloforge.cli.inputs import at_energy, read_conditions, shower_input
from caloforge.cli.options import (
    MEV,
    PATH,
    bundle_option,
    ca_cert_option,
    condition_option,
    data_option,
    geometry_option,
    output_option,
    overwrite_option,
    particle_option,
    sample_options,
    sampler_option,
    seed_option,
    showers_option,
    steps_option,
    threshold_option,
)
from caloforge.errors import InputError
from caloforge.outputs import check_file, check_folder
from caloforge.result_kinds import PREPARED, REPORT
from caloforge.validation.registries import PROTOCOLS


@main.command(example="caloforge preprocess --data showers.hdf5 --seed 1 -o prepared")
@sample_options
@click.option("--settings", "settings_file", type=PATH, help="YAML of preprocessing settings.")
@threshold_option
@seed_option
@output_option("Folder")
@overwrite_option
def preprocess(
    data: tuple[str, ...],
    test: tuple[str, ...],
    geometry: str | None,
    particle: str | None,
    settings_file: Path | None,
    threshold: float | None,
    seed: int,
    output: Path,
    overwrite: bool,
) -> None:
    """Clean and split a shower file and fit the scaling."""
    from caloforge.preprocessing.prepare import PrepareSettings, prepare
    from caloforge.showers import open_showers

    settings = PrepareSettings.from_yaml(settings_file) if settings_file else PrepareSettings()
    if threshold is not None:
        settings = PrepareSettings.parse({**settings.model_dump(), "threshold": threshold}, where="--threshold")
    check_folder(output, PREPARED, overwrite=overwrite)
    fetched = shower_input(*data, test=test, geometry=geometry, particle=particle)
    prepare(
        open_showers(fetched.path, geometry, particle=particle), output,
        settings=settings, seed=seed, source=fetched.source, overwrite=overwrite,
    )  # fmt: skip
    click.echo(f"wrote {output}")


@main.command(
    example="caloforge generate --bundle bundle --energy 50000 --n 1000 --seed 1 -o showers.hdf5\ncaloforge generate --bundle bundle --energy 50000 --condition theta=1.2 --condition particle=e- --n 1000 -o showers.hdf5\ncaloforge generate --bundle bundle --like geant4.hdf5 --seed 1 -o showers.hdf5"
)
@bundle_option
@ca_cert_option
@showers_option("--like", "Shower file, here or elsewhere, whose conditions to take, one shower each.")
@click.option("--energy", type=MEV, metavar="MEV", help="Incident energy of all showers.")
@click.option("--n", "count", type=click.IntRange(min=1), help="Number of showers.")
@condition_option
@sampler_option
@steps_option
@seed_option
@output_option("HDF5 file")
def generate(
    bundle: Path,
    like: str | None,
    energy: float | None,
    count: int | None,
    words: tuple[str, ...],
    sampler: dict[str, Any] | None,
    steps: int | None,
    seed: int,
    output: Path,
) -> None:
    """Draw showers from a generator into a CaloChallenge HDF5 file."""
    if (like is None) == (energy is None) or (energy is None) != (count is None):
        raise click.UsageError("give either --like FILE or both --energy MEV and --n N")
    check_file(output)
    named = read_conditions(words)
    from caloforge.models.bundle import read_bundle_config
    from caloforge.models.generate import generate as generate_showers
    from caloforge.showers import open_showers

    needed = read_bundle_config(bundle)["conditions"]
    if extra := [name for name in named if name not in needed]:
        raise InputError(
            f"--condition {extra[0]}: the generator of {bundle} has no such condition: {', '.join(needed)}"
        )
    if like is None:
        conditions = at_energy(energy, count, words)
    else:
        conditions = open_showers(shower_input(like).path).conditions.labelled(named, where=like)
    print_figures(generate_showers(bundle, conditions, output, seed=seed, steps=steps, sampler=sampler), beside=output)


@main.command(example="caloforge score --bundle tree --data new_geant4.hdf5 -o scores.hdf5")
@bundle_option
@data_option
@geometry_option
@particle_option
@output_option("HDF5 file")
def score(bundle: Path, data: tuple[str, ...], geometry: str | None, particle: str | None, output: Path) -> None:
    """Say how likely each shower is: log p, its parts, and how unusual it is."""
    check_file(output)
    from caloforge.models.likelihood.score import score as score_showers
    from caloforge.showers import open_showers

    given = shower_input(*data, geometry=geometry, particle=particle)
    showers = open_showers(given.path, geometry, particle=particle)
    print_figures(score_showers(bundle, showers, output), beside=output)


@main.command(example="caloforge validate --reference geant4.hdf5 --generated vae.hdf5 --generated flow.hdf5 -o report")
@ca_cert_option
@showers_option(
    "--reference", "Shower file to judge by; like the others a path, s3://, minio://, https://, gs://.", required=True
)
@showers_option("--generated", "Shower file to judge; may be repeated.", required=True, multiple=True)
@showers_option("--floor", "Second sample like the reference: what a perfect generator would reach.")
@showers_option("--training", "What the generators were trained on: finds showers that repeat it.")
@click.option(
    "--likelihood",
    type=PATH,
    metavar="BUNDLE",
    help="Generator that says how likely showers are (tree): compares them.",
)
@click.option(
    "--protocol", default="quick", show_default=True,
    type=click.Choice(PROTOCOLS.names),
    help="challenge: thresholds, binnings, samplings and classifiers of CaloChallenge, for its four datasets.",
)  # fmt: skip
@geometry_option
@particle_option
@seed_option
@output_option("Folder")
@overwrite_option
def validate(
    reference: str,
    generated: tuple[str, ...],
    floor: str | None,
    training: str | None,
    likelihood: Path | None,
    protocol: str,
    geometry: str | None,
    particle: str | None,
    seed: int,
    output: Path,
    overwrite: bool,
) -> None:
    """Compare shower files with a reference: metrics.json, report.html and plots."""
    from caloforge.fetch import Fetched, is_remote
    from caloforge.secrets import without_secrets
    from caloforge.showers import open_showers
    from caloforge.validation.validate import validate as validate_showers

    check_folder(output, REPORT, overwrite=overwrite)
    if twice := [address for place, address in enumerate(generated) if address in generated[:place]]:
        raise InputError(f"--generated {without_secrets(twice[0])}: is given twice")

    def read(address: str) -> Fetched:
        return shower_input(address, geometry=geometry, particle=particle)

    truth = read(reference)
    paths = [read(address).path for address in generated]
    names = [(path if is_remote(given) else Path(given)).stem for given, path in zip(generated, paths, strict=True)]
    if len(set(names)) < len(names):
        names = [without_secrets(address) if is_remote(address) else address for address in generated]
        names = [name.removesuffix(Path(name).suffix) for name in names]
    target = open_showers(truth.path, geometry, particle=particle)
    judged = {name: open_showers(path, geometry, particle=particle) for name, path in zip(names, paths, strict=True)}
    second, trained = (
        open_showers(read(address).path, geometry, particle=particle) if address else None
        for address in (floor, training)
    )
    validate_showers(
        target, judged, output, floor=second, training=trained, likelihood=likelihood, protocol=protocol, seed=seed, source=truth.source,
        overwrite=overwrite,
    )  # fmt: skip
    click.echo(f"wrote {output / 'metrics.json'} and {output / 'report.html'}")
