"""Public sets of showers by name: where they are, and how they are fetched whole."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from caloforge.config import Config
from caloforge.download import download, look_patiently
from caloforge.errors import InputError, unknown_name
from caloforge.files import read_json
from caloforge.names import relative_name
from caloforge.outputs import refuse_address
from caloforge.patience import PATIENCE_SECONDS
from caloforge.space import NoSpace, space_told
from caloforge.store import Found, Unreachable
from caloforge.store_web import WebStore
from caloforge.temporary import scratch_folder
from caloforge.yaml_file import parse_yaml

logger = logging.getLogger(__name__)

ZENODO = "https://zenodo.org"

_DOI = re.compile(r"(?:https?://doi\.org/)?10\.5281/zenodo\.(\d+)")

Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class PublicSet(Config):
    """A set of showers that anybody may fetch.

    Attributes:
        about: what it is.
        doi: by which it is cited.
        record: its number at Zenodo.
        files: name and MD5 of each file; empty: those that the record says.
    """

    about: str
    doi: str
    record: int = Field(ge=1)
    files: dict[str, Md5] = Field(default_factory=dict)


def public_sets() -> dict[str, PublicSet]:
    """Return the sets that have a name."""
    text = (files("caloforge") / "data" / "public_sets.yaml").read_text(encoding="utf-8")
    return {name: PublicSet.parse(one, where=name) for name, one in parse_yaml(text, where="public_sets.yaml").items()}


def find_set(name: str) -> PublicSet:
    """Return a set by its name, or any record of Zenodo by its DOI.

    Raises:
        InputError: it is neither.
    """
    known = public_sets()
    if name in known:
        return known[name]
    if match := _DOI.fullmatch(name):
        return PublicSet(about=name, doi=f"10.5281/zenodo.{match[1]}", record=int(match[1]))
    raise unknown_name("public set (or DOI at Zenodo, 10.5281/zenodo.NUMBER)", name, known)


def fetch_set(name: str, folder: Path, *, patience: float = PATIENCE_SECONDS) -> list[Path]:
    """Fetch all files of a set into a folder.

    A file that is there and has the right MD5 is not fetched again, and what a call left that was stopped is gone on
    from: it lies in the folder, hidden, until it is whole.

    Args:
        name: of the set, or its DOI.
        folder: made if it is not there.
        patience: seconds that a server which is away is waited for.

    Returns:
        The files.

    Raises:
        InputError: there is no such set, something else has the name of a file, a checksum differs, or the folder cannot
            be written.
        Unreachable: the server was away for longer.
        NoSpace: the disk is full.
    """
    refuse_address(folder)
    found = find_set(name)
    listed = found.files or _files_of_record(found.record, patience)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with space_told(folder):
            return [
                _fetch(f"{ZENODO}/records/{found.record}/files/{file}", folder / file, md5, name, patience)
                for file, md5 in listed.items()
            ]
    except OSError as error:
        raise InputError(f"{folder}: cannot write here ({error.strerror})") from None


def _files_of_record(record: int, patience: float) -> dict[str, str]:
    """Return names and MD5 of the files of a record, as Zenodo says them."""
    address = f"{ZENODO}/api/records/{record}"
    with closing(WebStore(address)) as store, scratch_folder() as scratch:
        download(store, look_patiently(store, patience), scratch / "record.json", patience=patience)
        content = read_json(scratch / "record.json")
    try:
        listed = {relative_name(str(one["key"])): _md5_of(one) for one in content["files"]}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{address}: does not list files with their checksums ({error})") from None
    if not listed:
        raise InputError(f"{address}: lists no files; may anybody fetch them?")
    return listed


def _md5_of(entry: Mapping[str, Any]) -> str:
    kind, _, value = str(entry["checksum"]).partition(":")
    if kind != "md5" or not re.fullmatch("[0-9a-f]{32}", value):
        raise ValueError(f"checksum {entry['checksum']!r} is no MD5")
    return value


def _fetch(address: str, target: Path, md5: str, name: str, patience: float) -> Path:
    if target.exists():
        if not target.is_file() or (actual := _md5(target)) != md5:
            is_now = f" (its MD5 is {actual}, not {md5})" if target.is_file() else ""
            raise InputError(f"{target}: there already, and not the file of {name}{is_now}; move it away")
        logger.info("%s: is there, with the right MD5", target)
        return target
    # The checksum in the name: what is gone on from is of the same file.
    partial = target.with_name(f".{target.name}.{md5}.partial")
    with closing(WebStore(address)) as store:
        look = look_patiently(store, patience)
        with _alone(partial):
            _complete(store, look, partial, target, md5, patience)
    return target


def _complete(store: WebStore, look: Found, partial: Path, target: Path, md5: str, patience: float) -> None:
    done, free = partial.stat().st_size, shutil.disk_usage(target.parent).free
    if look.size is not None and look.size - done > free:
        if not done:
            partial.unlink()
        raise NoSpace(target.parent, f"{(look.size - done) / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free")
    if done:
        logger.info("%s: going on after %.1f MB", target.name, done / 1e6)
    try:
        download(store, look, partial, patience=patience, resume=True)
    except Unreachable:
        raise
    except InputError:  # what came is something else, a login page for example
        partial.unlink()
        raise
    if (actual := _md5(partial)) != md5:
        partial.unlink()
        raise InputError(f"{store.shown}: its MD5 is {actual}, not {md5}; what came is removed, fetch it again")
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(target)


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Make the file that grows, and keep others from writing to it.

    Raises:
        InputError: another process fetches it.
    """
    with partial.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{partial}: another process is fetching this; wait for its end") from None
        except OSError as error:
            logger.debug("%s: no locks here (%s)", partial.parent, error)
        yield


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
