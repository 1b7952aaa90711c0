"""What commands read from their options: files here or elsewhere, YAML, headers; and how they are stopped."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from caloforge.errors import InputError, unknown_name
from caloforge.secrets import AUTHORIZATION, checked_secret, is_secret_name, read_text, remember, secret_in

if TYPE_CHECKING:
    from caloforge.conditions import ConditionName, Conditions
    from caloforge.fetch import Fetched
    from caloforge.result_kinds import ResultKind


def stop_on_sigterm() -> None:
    """Let SIGTERM end a run as Ctrl-C does: the steps are told and may save themselves."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def fetch_input(address: str) -> Fetched:
    """Return a file; what has to be fetched goes to a folder that lives as long as the command."""
    from caloforge.fetch import fetch, is_remote

    return fetch(address, _scratch() if is_remote(address) else Path())


def shower_input(
    *addresses: str, test: Sequence[str] = (), geometry: str | None = None, particle: str | None = None
) -> Fetched:
    """Return showers of any number of files and any format as one file; what is written lives as long as the command.

    Args:
        addresses: see :func:`caloforge.preprocessing.sample.one_file`, like what follows.
        test: likewise.
        geometry: of the showers.
        particle: of the geometry.
    """
    from caloforge.preprocessing.sample import is_one_file, one_file

    folder = Path() if is_one_file(addresses, test) else _scratch()
    return one_file(addresses, folder, test=test, geometry=geometry, particle=particle)


def shower_address(addresses: Sequence[str], test: Sequence[str]) -> str:
    """Return the one address of showers, for what fetches them itself, or the path of all of them as one file."""
    if _is_one_elsewhere(addresses, test):
        return addresses[0]
    return str(shower_input(*addresses, test=test).path)


def _is_one_elsewhere(addresses: Sequence[str], test: Sequence[str]) -> bool:
    """Return whether showers are one file on another machine, which whoever needs it fetches."""
    from caloforge.fetch import is_remote

    return len(addresses) == 1 and not test and is_remote(addresses[0])


def trials_address(
    addresses: Sequence[str], test: Sequence[str], *, cluster: bool, output: Path, kind: ResultKind, overwrite: bool
) -> str:
    """Return where trials find the showers; what is made one file here is in the output, for a search that goes on.

    Raises:
        InputError: several files cannot be given to pods, or the output may not be written.
    """
    from caloforge.outputs import claim_folder
    from caloforge.preprocessing.sample import is_one_file, one_file

    if not cluster:
        if is_one_file(addresses, test) or _is_one_elsewhere(addresses, test):
            return addresses[0]
        claim_folder(output, kind, overwrite=overwrite)
        return str(one_file(addresses, output / "data", test=test).path)
    if len(addresses) > 1 or test:
        raise InputError(
            "trials on a cluster take one file, as their pods find it; caloforge convert makes one of several"
        )
    return addresses[0]


def _scratch() -> Path:
    """Return a folder of this command."""
    from caloforge.temporary import scratch_folder

    return click.get_current_context().with_resource(scratch_folder())


def at_energy(energy: float | None, count: int | None, words: tuple[str, ...] = ()) -> Conditions:
    """Return the conditions of ``count`` showers of one incident energy in MeV and of ``--condition`` words."""
    import numpy as np

    from caloforge.conditions import Conditions

    values = {"incident_energy": energy, **read_conditions(words)}
    return Conditions.of({name: np.full(count or 0, value, dtype=np.float64) for name, value in values.items()})


def read_conditions(words: tuple[str, ...]) -> dict[ConditionName, float]:
    """Return the conditions of ``--condition NAME=VALUE`` words: angles in rad, a particle as its name or PDG code.

    Raises:
        click.UsageError: a word is no such thing, names an unknown condition or one twice, or its value cannot be.
    """
    import numpy as np

    from caloforge.conditions import COLUMNS, ETA, Column
    from caloforge.particles import pdg_code

    found: dict[ConditionName, float] = {}
    known: dict[str, Column] = {**dict[str, Column](COLUMNS.items()), "eta": ETA}
    del known["incident_energy"]
    for word in words:
        name, equals, text = (part.strip() for part in word.partition("="))
        where = f"--condition {name}"
        if not equals or not text:
            raise click.UsageError(f"--condition {word!r}: expected NAME=VALUE, e.g. theta=0.3 or particle=gamma")
        if name == "incident_energy":
            raise click.UsageError(f"{where}: give --energy MEV")
        try:
            if name not in known:
                raise unknown_name("condition", name, known)
            value = float(pdg_code(text)) if known[name].whole else float(text)
            if not known[name].possible(np.array([value])).all():
                raise InputError(f"{text} is not {known[name].expected}")
        except InputError as error:
            raise click.UsageError(f"{where}: {error}") from None
        except ValueError:
            raise click.UsageError(f"{where}: {text!r} is no number ({known[name].unit})") from None
        as_stored: ConditionName = "theta" if name == "eta" else cast("ConditionName", name)
        if as_stored in found:
            raise click.UsageError(f"{where}: is given twice")
        found[as_stored] = float(2 * np.arctan(np.exp(-value))) if name == "eta" else value
    return found


def read_headers(words: tuple[str, ...], file: Path | None) -> dict[str, str]:
    """Return the headers of a query, 'NAME: VALUE' each.

    Secrets come from the file or from ``CALOFORGE_AUTHORIZATION``. As a word of the command they are refused and not
    just warned of: every user of the machine sees it in the list of processes, and the shell keeps it.

    Args:
        words: of the command line.
        file: a header in each line; empty lines and those that begin with ``#`` are passed over.
    """
    headers: dict[str, str] = {}
    for word in words:
        name, colon, value = (part.strip() for part in word.partition(":"))
        if not colon:
            raise click.UsageError(f"--header {name!r}: expected 'NAME: VALUE'")
        remember(value)
        if is_secret_name(name) or secret_in(value):
            msg = f"--header: others can see {name} among the words of a command; use --header-file, or {AUTHORIZATION}"
            raise click.UsageError(msg)
        headers[name] = value
    if file is not None:
        for number, line in enumerate(read_text(file).splitlines(), 1):
            name, colon, value = (part.strip() for part in line.partition(":"))
            if not line.strip() or name.startswith("#"):
                continue
            if not colon:
                raise InputError(f"{file}: line {number}: expected 'NAME: VALUE'")
            headers[name] = checked_secret(value, where=f"{file}: line {number}", what="header")
    if (value := os.environ.get(AUTHORIZATION, "").strip()) and "authorization" not in {
        name.lower() for name in headers
    }:
        headers["Authorization"] = checked_secret(value, where=AUTHORIZATION, what="header")
    return headers


def read_settings(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML file."""
    from caloforge.yaml_file import read_yaml

    values = read_yaml(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected keys and values, got {type(values).__name__}")
    return values
