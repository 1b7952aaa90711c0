"""Public sets of showers: fetch."""

from __future__ import annotations

from pathlib import Path

import click

from caloforge.cli.group import main
from caloforge.cli.options import PLACE, ca_cert_option


@main.command(example="caloforge fetch dataset_2 -o data\ncaloforge fetch --list")
@click.argument("names", metavar="[NAME|DOI]...", nargs=-1)
@click.option("--list", "listing", is_flag=True, help="Say which names there are.")
@ca_cert_option
@click.option("-o", "--output", type=PLACE, default=Path(), help="Folder for the files; without it the current one.")
def fetch(names: tuple[str, ...], listing: bool, output: Path) -> None:
    """Fetch public sets of showers, each file checked by its MD5; goes on where it was stopped."""
    from caloforge.public_sets import fetch_set, find_set, public_sets

    if listing == bool(names):
        raise click.UsageError("give names of sets, or --list")
    for name, one in public_sets().items() if listing else ():
        number = f"{len(one.files)} files" if one.files else "all files of the record"
        click.echo(f"{name:<20}{one.about} ({number}, doi:{one.doi})")
    for name in names:
        find_set(name)
    for name in names:
        for path in fetch_set(name, output):
            click.echo(path)
