"""Bring the results of a run on Kubeflow to this machine."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from caloforge.errors import InputError
from caloforge.fetch import files_under, local_copy
from caloforge.files import digest, read_json
from caloforge.index import Artifact, Index
from caloforge.names import plain_name, relative_name
from caloforge.pipelines.kubeflow.client import Kubeflow
from caloforge.pipelines.kubeflow.roots import pipeline_name, roots
from caloforge.pipelines.layout import PLACES, ResultFolder, names
from caloforge.secrets import without_secrets
from caloforge.temporary import scratch_folder

logger = logging.getLogger(__name__)

LARGE_BYTES = 100_000_000
"""Generated showers above this size are fetched only if all is asked for."""

EXPECTED = frozenset({"report.html", "leaderboard.json", "leaderboard.md", "quality.md", "metrics.json", "bundle"})
"""What a whole run leaves, whatever its families."""

_OBJECT_STORES = ("s3://", "minio://", "gs://")

_OF_UNKNOWN_FAMILY = {("generate", "generated"), ("tune", "tuning")}
"""Without an index nothing says of which family they are."""


@dataclass(frozen=True)
class Fetched:
    """What came.

    Attributes:
        written: names in the folder, those that were there from before too.
        skipped: large files that were not asked for.
        lost: a line for each artifact that could not be brought.
    """

    written: list[str]
    skipped: list[str]
    lost: list[str]


@dataclass(frozen=True)
class _Found:
    """The files of a run under its root: path below it to address, oldest first."""

    place: str
    files: Mapping[str, str]


def fetch_artifacts(
    kubeflow: Kubeflow, run_id: str, output: Path, *, root: str | None = None, everything: bool = False
) -> Fetched:
    """Copy the results of a run into a folder, as a local run lays them.

    The API v2beta1 of Kubeflow Pipelines says nothing of artifacts, so they are read from the object
    store itself; keys and endpoint come from the environment (:func:`caloforge.fetch.local_copy`).
    The run's index says which there are, wherever they lie, and their checksums. A run without one
    (it failed, has not ended, or is of an older version) gives what lies under its own root.

    Args:
        kubeflow: where the run is.
        run_id: of the run.
        output: gets what :data:`caloforge.pipelines.layout.PLACES` lists, as far as it is there.
        root: pipeline root of the run; without it the places of :func:`caloforge.pipelines.kubeflow.roots.roots`.
        everything: bring generated showers of more than ``LARGE_BYTES`` too.

    Raises:
        InputError: the run has no artifacts there, they cannot be read, or something that is not
            the run's is in the way.
    """
    run = kubeflow.ask(f"read run {run_id!r}", kubeflow.client.get_run, run_id)
    found = _find(kubeflow, run, root)
    folder = ResultFolder(output, run=run_id)
    index = _index(found)
    if index is not None:
        return _by_index(found, index, folder, everything=everything)
    logger.warning("the run has no index (%s); taking what lies under its own root", _why_none(run))
    return _by_names(found, folder)


def _find(kubeflow: Kubeflow, run: Any, root: str | None) -> _Found:
    """Return the run's files under the first root that has any."""
    pipeline = pipeline_name(kubeflow, run)
    tried, refusals = [], []
    for candidate in [root] if root else roots(kubeflow, run):
        place = f"{candidate.partition('?')[0].rstrip('/')}/{pipeline}/{run.run_id}"
        tried.append(without_secrets(place) if "://" in place else place)
        try:
            files = files_under(place)
        except InputError as error:
            refusals.append(error)
            continue
        if files:
            return _Found(place, files)
    if len(refusals) == len(tried):  # no place could be looked into
        raise refusals[0]
    text = (
        f"{', '.join(tried)}: no artifacts are there; give --root, the namespace's pipeline root "
        "(kubectl get configmap kfp-launcher -o jsonpath='{.data.defaultPipelineRoot}')"
    )
    raise InputError(text)


def _index(found: _Found) -> Index | None:
    """Return the run's index, None if its last step has written none."""
    addresses = [address for path, address in found.files.items() if re.fullmatch(r"overview/([^/]+/)?index", path)]
    if not addresses:
        return None
    with scratch_folder() as scratch:  # of several attempts, the last
        return Index.read(local_copy(addresses[-1], scratch), where=without_secrets(addresses[-1]))


def _by_index(found: _Found, index: Index, folder: ResultFolder, *, everything: bool) -> Fetched:
    fetched = Fetched([], [], [])
    wanted = [(one, goes) for one in index.artifacts if (goes := names(one.step, one.name, one.family))]
    folder.refuse_others([name for _, goes in wanted for name in goes])
    for artifact, goes in wanted:
        shown = ", ".join(goes)
        if artifact.step == "generate" and artifact.bytes > LARGE_BYTES and not everything:
            fetched.skipped.append(f"{shown} ({artifact.bytes / 1e6:.0f} MB)")
            continue
        if all(part == "" and folder.holds(name, artifact.sha256) for name, part in goes.items()):
            fetched.written.extend(goes)
            continue
        with folder.scratch() as scratch:
            try:
                source = _checked(artifact, _store_of(found.place), scratch)
            except InputError as error:
                fetched.lost.append(f"{shown}: {error}")
                continue
            fetched.written.extend(folder.lay(artifact.step, artifact.name, source, family=artifact.family))
    return fetched


def _checked(artifact: Artifact, stores: tuple[str, ...], scratch: Path) -> Path:
    """Fetch an artifact and compare it with what the index says of it."""
    address = artifact.address.partition("?")[0]
    if not address.startswith(stores):
        raise InputError(f"{without_secrets(address)}: the run's index names what is in no store of artifacts")
    if artifact.kind == "folder":
        _check_names(address, files_under(address))
    source = local_copy(address, scratch)
    actual, size = digest(source)
    if actual != artifact.sha256:
        text = (
            f"{size} bytes of SHA-256 {actual}, not the {artifact.bytes} bytes of {artifact.sha256} that the run wrote"
        )
        raise InputError(f"{without_secrets(address)}: {text}")
    return source


def _store_of(place: str) -> tuple[str, ...]:
    """Return how the addresses of a run's artifacts may begin."""
    return _OBJECT_STORES if "://" in place else ("/",)


def _by_names(found: _Found, folder: ResultFolder) -> Fetched:
    """Bring what lies under the run's root and is called as our steps call it."""
    fetched = Fetched([], [], [])
    _check_names(found.place, found.files)
    for step, artifact, address in _artifacts(found):
        with folder.scratch() as scratch:
            try:
                source = local_copy(address, scratch)
                family = _family(source) if (step, artifact) == ("train", "bundle") else None
            except InputError as error:
                fetched.lost.append(str(error))
                continue
            laid = folder.lay(step, artifact, source, family=family)
            fetched.written.extend(name for name in laid if name not in fetched.written)
    if missing := EXPECTED.difference(fetched.written):
        text = "not with this run: %s; a step that was taken from the cache left its files with an earlier run"
        logger.warning(text, ", ".join(sorted(missing)))
    return fetched


def _artifacts(found: _Found) -> Iterator[tuple[str, str, str]]:
    """Yield step and artifact, and the address of the file or folder.

    Kubeflow writes ``<task>/<artifact>`` and, since 2.5, ``<task>/<random>/<artifact>``; the names of
    the artifacts tell them apart.
    """
    known = {(place.step, place.artifact) for place in PLACES} - _OF_UNKNOWN_FAMILY
    seen = set()
    for path in found.files:
        parts = PurePosixPath(path).parts
        for depth in (1, 2):
            if len(parts) > depth and (parts[0], parts[depth]) in known:
                address = f"{found.place}/{'/'.join(parts[: depth + 1])}"
                if address not in seen:
                    seen.add(address)
                    yield parts[0], parts[depth], address
                break


def _family(bundle: Path) -> str:
    config = read_json(bundle / "config.json")
    try:
        return plain_name(config["family"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{bundle.name}: config.json does not say of which family it is") from None


def _check_names(address: str, files: Iterable[str]) -> None:
    """Refuse names that lead out of a folder; in an object store they may be any text."""
    for name in files:
        try:
            relative_name(name)
        except ValueError:
            raise InputError(f"{without_secrets(address)}: holds a file of the name {name!r}") from None


def _why_none(run: Any) -> str:
    if run.state in ("PENDING", "RUNNING", "PAUSED"):
        return "it has not ended"
    return "it is of another version of caloforge" if run.state == "SUCCEEDED" else f"it ended as {run.state}"
