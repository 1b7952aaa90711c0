"""Options that several commands have."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from caloforge.secrets import without_secrets


class LocalPath(click.Path):
    """A path of this machine; of an address, which people may give, too, a path would keep all but one slash."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if (
            isinstance(value, str)
            and re.match(r"[a-z][a-z0-9+.-]*:/", value, re.IGNORECASE)
            and not Path(value).exists()
        ):
            text = without_secrets(re.sub(":/+", "://", value, count=1))
            self.fail(f"{text} is an address; expected a path of this machine", param, ctx)
        return super().convert(value, param, ctx)


class InputPath(LocalPath):
    """A file or folder of this machine that a command reads."""


class Address(click.ParamType[str]):
    """Where something that a command reads is, here or elsewhere, or its name where the package has it."""

    name = "file|uri"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it as it is."""
        return str(value)


PATH = InputPath(path_type=Path)

PLACE = LocalPath(path_type=Path)
"""Where a command writes."""

ADDRESS = Address()


def output_option(kind: str) -> Callable[[Any], Any]:
    """Add the option that says where the result goes."""
    return click.option("-o", "--output", type=PLACE, required=True, help=f"{kind} to write.")


overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Write into a folder with other files, or in place of a result of another kind."
)
"""Files that caloforge did not write stay even then."""


def showers_option(name: str, kind: str, *, required: bool = False, multiple: bool = False) -> Callable[[Any], Any]:
    """Add an option that takes a shower file, here or elsewhere."""
    return click.option(name, type=ADDRESS, metavar="FILE|URI", required=required, multiple=multiple, help=kind)


geometry_option = click.option(
    "--geometry",
    type=ADDRESS,
    metavar="NAME|FILE",
    help="Geometry, by name, as a binning XML or as a CSV of cells; without it the file's own.",
)


particle_option = click.option(
    "--particle", metavar="NAME|PDG", help="Which one, where the binning XML describes several with as many voxels."
)


seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**53 - 1), default=0, show_default=True, help="Same seed, same result."
)


bundle_option = click.option("--bundle", type=PATH, required=True, help="Folder of a generator.")


condition_option = click.option(
    "--condition", "words", multiple=True, metavar="NAME=VALUE",
    help="Further condition of all showers: theta or phi in rad, eta, particle as PDG code or name (e-, gamma, pi+).",
)  # fmt: skip


def read_sampler(text: str) -> dict[str, Any]:
    """Return the name and the settings of a sampler, given as ``NAME`` or ``{name: NAME, ...}``.

    Raises:
        InputError: it is no YAML.
    """
    from caloforge.yaml_file import parse_yaml

    found = parse_yaml(text, where="--sampler")
    return found if isinstance(found, dict) else {"name": text}


sampler_option = click.option(
    "--sampler", callback=lambda _, __, text: None if text is None else read_sampler(text), metavar="NAME|{name: NAME, ...}",
    help="How noise becomes a shower: ddim, ddpm, dpm_solver, edm_heun or restart for diffusion, euler, midpoint or heun for "
    "flow matching, with settings if you like; without it the generator's own.",
)  # fmt: skip


steps_option = click.option(
    "--steps", type=click.IntRange(min=1), help="Sampling steps; without it the generator's own."
)


class Finite(click.FloatRange):
    """A range of numbers without NaN, which lies in every range of click's."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


def budget_minutes(text: str) -> float:
    """Return the minutes of a time with its unit."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if found is None or not 0 < float(found[1]) < 1e6:
        raise click.BadParameter(f"{text!r}: expected a number with its unit, s, m or h, e.g. 20m")
    return float(found[1]) * {"s": 1 / 60, "m": 1, "h": 60}[found[2]]


MINUTES = Finite(min=0, max=525_600)
"""Up to a year; 0 is no bound."""

SECONDS = Finite(min=0, min_open=True, max=86_400)

MEV = Finite(min=0, min_open=True, max=1e15)
"""An incident energy."""

threshold_option = click.option(
    "--threshold", type=MEV, metavar="MEV",
    help="Voxels under it are 0; without it what the file's attribute energy_threshold says.",
)  # fmt: skip


minutes_option = click.option("--max-minutes", type=MINUTES, help="Bound of each training.")


def _trust(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Have all connections of this command, and of the processes that it starts, trust the certificates of a file."""
    if path is None:
        return
    from caloforge.network import CA_FILE, check_ca_file

    check_ca_file(path, where=f"--ca-cert {path}")
    names = (CA_FILE, "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")  # ours, botocore's, that of gs://
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(path.absolute())))

    def restore() -> None:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value

    context.call_on_close(restore)


ca_cert_option = click.option(
    "--ca-cert", type=PATH, callback=_trust, expose_value=False,
    help="Certificates to trust (PEM) in place of the usual ones; or set SSL_CERT_FILE.",
)  # fmt: skip


def data_option(command: Callable[..., Any], *, required: bool = True) -> Callable[..., Any]:
    """Add the option that takes the showers of a command, and the one for where they are fetched."""
    help_text = (
        "Showers of any format (docs/formats.md): a file, a folder, a pattern ('parts/*.h5'), s3://, minio://, https://, "
        "gs://; may be repeated: all are one sample. What is fetched or converted is kept for this command."
    )
    return showers_option("--data", help_text, required=required, multiple=True)(ca_cert_option(command))  # type: ignore[no-any-return]


test_option = showers_option(
    "--test", "Showers to judge generators by, like --data; without it a part of those.", multiple=True
)


def sample_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says which showers are meant: data, those to judge by, mesh and particle."""
    return data_option(test_option(geometry_option(particle_option(command))))


prepared_option = click.option(
    "--prepared",
    type=ADDRESS,
    metavar="FOLDER|URI",
    help="Folder that `caloforge preprocess` wrote; without it that is done first.",
)


trial_pod_option = click.option(
    "--pod", "pod_file", type=PATH, help="YAML of what trials get on a cluster: image, namespace, claims, ..."
)


def header_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what is sent along with a query to a server; what is secret in it is no word of a command."""
    for option in (
        ca_cert_option,
        click.option(
            "--header-file", type=PATH, help="File of headers; for Authorization alone CALOFORGE_AUTHORIZATION."
        ),
        click.option(
            "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Sent with the query, e.g. Host."
        ),
    ):
        command = option(command)
    return command


def backend_option(known: Sequence[str], kinds: str, *, default: str = "auto") -> Callable[[Any], Any]:
    """Add the option that says where an operation runs; ``kinds`` are those of the backends in words."""
    return click.option(
        "--backend", type=click.Choice(known), default=default, show_default=True,
        help=f"{kinds}, or what fits the place.",
    )  # fmt: skip


def kubeflow_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says where Kubeflow Pipelines is and who asks; tokens are never words of a command."""
    for option in (
        ca_cert_option,
        click.option("--cookies-file", type=PATH, help="File with a browser's cookies; or CALOFORGE_KFP_COOKIES."),
        click.option("--token-file", type=PATH, help="File with a bearer token; or set CALOFORGE_KFP_TOKEN."),
        click.option("--namespace", help="Your profile, where users have namespaces of their own."),
        click.option("--host", help="Address of Kubeflow Pipelines, or set KF_PIPELINES_ENDPOINT."),
    ):
        command = option(command)
    return command
