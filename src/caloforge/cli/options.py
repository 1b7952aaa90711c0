"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)


def output_option(kind: str) -> Callable[[Any], Any]:
    """Add the option that says where the result goes."""
    return click.option("-o", "--output", type=PATH, required=True, help=f"{kind} to write.")


def showers_option(name: str, kind: str, *, required: bool = False, multiple: bool = False) -> Callable[[Any], Any]:
    """Add an option that takes a shower file, here or elsewhere."""
    return click.option(name, metavar="FILE|URI", required=required, multiple=multiple, help=kind)


data_option = showers_option(
    "--data",
    "CaloChallenge HDF5 file: a path, s3://, minio://, https://, gs://. What is fetched is kept for this command, "
    "or in the folder CALOFORGE_FETCH_CACHE.",
    required=True,
)


geometry_option = click.option(
    "--geometry", metavar="NAME|XML", help="Mesh, by name or as a binning XML; without it the file's own."
)


particle_option = click.option(
    "--particle", metavar="NAME|PDG", help="Which one, where the binning XML describes several with as many voxels."
)


seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**53 - 1), default=0, show_default=True, help="Same seed, same result."
)


bundle_option = click.option("--bundle", type=PATH, required=True, help="Folder of a generator.")


steps_option = click.option(
    "--steps", type=click.IntRange(min=1), help="Sampling steps; without it the generator's own."
)


minutes_option = click.option("--max-minutes", type=click.FloatRange(min=0), help="Bound of each training.")


def kubeflow_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says where Kubeflow Pipelines is and who asks; tokens are never words of a command."""
    for option in (
        click.option("--cookies-file", type=PATH, help="File with a browser's cookies; or CALOFORGE_KFP_COOKIES."),
        click.option("--token-file", type=PATH, help="File with a bearer token; or set CALOFORGE_KFP_TOKEN."),
        click.option("--namespace", help="Your profile, where users have namespaces of their own."),
        click.option("--host", help="Address of Kubeflow Pipelines, or set KF_PIPELINES_ENDPOINT."),
    ):
        command = option(command)
    return command
