"""Fill Kubeflow's artifacts with what their viewers accept."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge import __version__
from caloforge.fetch import Fetched, fetch
from caloforge.files import digest, write_json
from caloforge.index import Artifact, Record
from caloforge.provenance import git_revision
from caloforge.source import Source

if TYPE_CHECKING:
    from caloforge.validation.report.leaderboard import Leaderboard

NO_ENERGIES = "none.json"
"""File in the artifact of the layer energies of a run whose families have no use for common ones."""


def has_energies(folder: Path) -> bool:
    """Return whether a run trained layer energies for all families; who may use them trains its own otherwise."""
    return not (folder / NO_ENERGIES).exists()


def log_scalars(metrics: Any, values: Mapping[str, Any], *, family: str = "") -> None:
    """Log the finite numbers among ``values``; Kubeflow cannot store infinity, NaN or NumPy types.

    They are also written to the artifact's file: kfp.local takes an artifact without a file for
    lost and repeats the step.

    Args:
        metrics: artifact to fill.
        values: name to number; others are left out.
        family: generator family that they are of; the artifact is shown under it.
    """
    if family:
        metrics.metadata["display_name"] = f"metrics {family}"
    scalars = {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    for name, value in scalars.items():
        metrics.log_metric(name, value)
    write_json(Path(metrics.path), scalars)


def log_roc(metrics: Any, fpr: Sequence[float], tpr: Sequence[float], thresholds: Sequence[float]) -> None:
    """Log the points of a ROC curve that are finite (the first threshold of scikit-learn is not)."""
    points = [
        [float(value) for value in point]
        for point in zip(fpr, tpr, thresholds, strict=True)
        if all(math.isfinite(value) for value in point)
    ]
    columns = [list(column) for column in zip(*points, strict=True)]
    metrics.log_roc_curve(*columns)
    write_json(Path(metrics.path), dict(zip(("fpr", "tpr", "threshold"), columns, strict=True)))


def headline(board: "Leaderboard") -> dict[str, float]:
    """Return the headline metrics and floors of a leaderboard under one flat name each."""
    values = {}
    for row in board.rows:
        for metric in ("auc", "fpd", "mean_separation"):
            values[f"{row.generator}_{metric}"], _, values[f"floor_{metric}"] = row.figure(metric)
    return values


def showers_here(data: str, showers: Any, folder: Path, *, checksum: str) -> Fetched:
    """Return the shower file of a run: that of the step convert, or what the address names, fetched if it is elsewhere.

    Args:
        data: the address.
        showers: artifact of the step convert, None if the pipeline has none.
        folder: for what is fetched.
        checksum: SHA-256 of what the address names; empty: not checked.
    """
    if showers is None:
        return fetch(data, folder, checksum=checksum)
    said = {key.removeprefix("data_"): value for key, value in showers.metadata.items() if key.startswith("data_")}
    return Fetched(Path(showers.path), Source.of({"address": data, "size": 0, **said}))


def describe(artifact: Any, **metadata: str | float) -> None:
    """Set an artifact's metadata: where it comes from, and what the next steps ask of it.

    ``display_name`` is what Kubeflow shows in place of the output's name, which is the same for all families.
    """
    artifact.metadata.update({"caloforge": __version__, "git_revision": git_revision(), **metadata})


def record(
    step: str,
    artifacts: Mapping[str, Any],
    *,
    family: str | None = None,
    failed: str = "",
    data: Source | None = None,
) -> str:
    """Return the JSON of a step's record (:class:`caloforge.index.Record`), its output parameter ``record``.

    Each artifact gets its ``sha256`` and ``bytes`` as metadata too. To be called when all are written.

    Args:
        step: name of the step.
        artifacts: output name to artifact, of those that a user wants to have.
        family: that the step worked on.
        failed: why the family failed; its artifacts do not count then.
        data: where the showers came from.
    """
    found = []
    for name, artifact in artifacts.items() if not failed else ():
        path = Path(artifact.path)
        checksum, size = digest(path)
        artifact.metadata.update({"sha256": checksum, "bytes": size})
        found.append(
            Artifact(
                step=step, family=family, name=name, address=artifact.uri, sha256=checksum, bytes=size,
                kind="folder" if path.is_dir() else "file",
            )
        )  # fmt: skip
    return Record(step=step, family=family, failed=failed, data=data, artifacts=tuple(found)).model_dump_json()
