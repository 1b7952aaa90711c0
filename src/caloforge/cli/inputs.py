"""What commands read from their options: files here or elsewhere, YAML, headers; and how they are stopped."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caloforge.errors import InputError

if TYPE_CHECKING:
    from caloforge.fetch import Fetched


def stop_on_sigterm() -> None:
    """Let SIGTERM end a run as Ctrl-C does: the steps are told and may save themselves."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def fetch_input(address: str) -> Fetched:
    """Return a shower file; what has to be fetched goes to a folder that lives as long as the command."""
    from caloforge.fetch import fetch, is_remote

    if not is_remote(address):
        return fetch(address, Path())
    stop_on_sigterm()  # leaves the folder's with-block
    folder = click.get_current_context().with_resource(tempfile.TemporaryDirectory(prefix="caloforge-"))
    return fetch(address, Path(folder))


def at_energy(energy: float | None, count: int | None) -> Any:
    """Return the conditions of ``count`` showers of one incident energy in MeV."""
    import numpy as np

    from caloforge.showers import Conditions

    return Conditions(np.full(count or 0, energy, dtype=np.float64))


def parse_headers(headers: tuple[str, ...]) -> dict[str, str]:
    """Return the headers that were given as 'NAME: VALUE'."""
    pairs = [header.partition(":") for header in headers]
    if wrong := [name for name, colon, _ in pairs if not colon]:
        raise click.UsageError(f"--header {wrong[0]!r}: expected 'NAME: VALUE'")
    return {name.strip(): value.strip() for name, _, value in pairs}


def read_settings(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file."""
    from caloforge.yaml_file import read_yaml

    values = read_yaml(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected keys and values, got {type(values).__name__}")
    return values
