"""Shower files of any number and format as the one file that every step reads."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from glob import has_magic
from hashlib import sha256
from pathlib import Path

from caloforge.errors import InputError
from caloforge.fetch import Fetched, fetch, is_remote, paths_of
from caloforge.files import read_json, write_json
from caloforge.preprocessing.convert import convert
from caloforge.preprocessing.readers.find import expanded, formats_of, is_root
from caloforge.secrets import without_secrets
from caloforge.source import Source

logger = logging.getLogger(__name__)

_OURS = "calochallenge"

_NAME = "showers.hdf5"


def one_file(
    sources: Sequence[str],
    folder: Path,
    *,
    test: Sequence[str] = (),
    geometry: str | None = None,
    particle: str | None = None,
    checksum: str = "",
) -> Fetched:
    """Return a shower file in the layout of the CaloChallenge, and where it came from.

    One such file is returned as it is. Several, or showers of another format, are written into the folder as one, once:
    a later call with the same files finds it there.

    Args:
        sources: paths, patterns of paths, folders or addresses (:func:`caloforge.fetch.fetch`), one after the other.
        folder: for what is fetched or written.
        test: likewise, of the showers that generators are to be judged on; without them some of ``sources`` are.
        geometry: mesh, by name or file; without it the files' own.
        particle: which one, where a binning XML has several.
        checksum: SHA-256 of the file; of several there is none.

    Raises:
        InputError: the files cannot be read, or do not belong together.
    """
    given = [address for one in sources for address in expanded(one)]
    judged = [address for one in test for address in expanded(one)]
    if len(given) == 1 and not judged:
        found = fetch(given[0], folder, checksum=checksum)
        if _needs_nothing(found.path):
            return found
        fetched, held_out = [found], []
    else:
        if checksum:
            raise InputError(f"the checksum of a file is given, but {len(given) + len(judged)} files")
        fetched = [fetch(address, folder / "parts" / str(number)) for number, address in enumerate(given)]
        held_out = [fetch(address, folder / "test" / str(number)) for number, address in enumerate(judged)]
    output, record = folder / _NAME, folder / f".{_NAME}.json"
    everything = [*fetched, *held_out]
    key = _key([one.path for one in fetched], [one.path for one in held_out], geometry, particle)
    source = Source(
        ", ".join(without_secrets(address) for address in (*given, *judged)),
        sum(one.source.size for one in everything),
        fetched=everything[0].source.fetched,
        seconds=sum(one.source.seconds for one in everything),
    )
    if not (output.is_file() and record.is_file() and read_json(record).get("key") == key):
        folder.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)
        said = convert(
            [one.path for one in fetched],
            output,
            test=[one.path for one in held_out],
            geometry=geometry,
            particle=particle,
        )
        logger.info(
            "%s: %d showers as one file in the CaloChallenge's layout, %s", said["format"], said["showers"], output
        )
        write_json(record, {"key": key})
    return Fetched(output, source)


def is_one_file(sources: Sequence[str], test: Sequence[str]) -> bool:
    """Return whether sources are one file of this machine that :func:`one_file` returns as it is."""
    if test or len(sources) != 1 or is_remote(sources[0]) or has_magic(sources[0]):
        return False
    if not (paths := paths_of(*sources)):
        return True  # an empty address: whoever opens it says so
    (path,) = paths
    return _needs_nothing(path) or not path.exists()  # whoever opens it says that it is not there


def _needs_nothing(path: Path) -> bool:
    """Return whether a file is in our layout, or in none: whoever opens it says what it lacks, but for ROOT's."""
    if not path.is_file():
        return False
    formats = formats_of(path)
    return _OURS in formats or (not formats and not is_root(path))


def _key(paths: Sequence[Path], test: Sequence[Path], geometry: str | None, particle: str | None) -> str:
    """Return what is another if the files were changed."""

    def state(path: Path) -> list[tuple[str, int, int]]:
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        return [(str(one.absolute()), one.stat().st_size, one.stat().st_mtime_ns) for one in files]

    content = [[*map(state, paths)], [*map(state, test)], geometry, particle]
    return sha256(json.dumps(content).encode()).hexdigest()
