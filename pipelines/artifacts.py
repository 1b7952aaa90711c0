"""Bring the results of a run on Kubeflow to this machine."""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from caloforge.errors import InputError
from caloforge.fetch import files_under, local_copy, without_secrets
from caloforge.files import read_json
from caloforge.pipelines.collect import link_file, link_folder
from caloforge.pipelines.kubeflow import Kubeflow

logger = logging.getLogger(__name__)

ROOT = "minio://mlpipeline/v2/artifacts"
"""Where a stock Kubeflow keeps artifacts, if the run names no place of its own."""

_FILES: Mapping[tuple[str, str], str] = {
    ("compare", "leaderboard"): "leaderboard.json",
    ("compare", "summary"): "leaderboard.md",
    ("validate", "report"): "report.html",
    ("preprocess", "quality"): "quality.md",
}
"""Task and artifact to the name that a local run gives it."""

_FOLDERS = (("validate", "judgement"), ("export", "exported"), ("train", "bundle"))

EXPECTED = frozenset({*_FILES.values(), "metrics.json", "plots", "bundle"})
"""What a whole run leaves, besides the generators of its families."""


def fetch_artifacts(kubeflow: Kubeflow, run_id: str, output: Path, *, root: str | None = None) -> list[str]:
    """Copy report, leaderboard, metrics, plots and generators of a run into a folder, as a local run lays them.

    The API v2beta1 of Kubeflow Pipelines says nothing of artifacts, so they are read from the object
    store itself; keys and endpoint come from the environment (:func:`caloforge.fetch.local_copy`).
    A step that Kubeflow took from its cache left its artifacts with the earlier run.

    Args:
        kubeflow: where the run is.
        run_id: of the run.
        output: gets ``report.html``, ``leaderboard.json``, ``leaderboard.md``, ``quality.md``,
            ``metrics.json``, ``plots/``, ``bundle/`` and ``bundles/<family>/``, as far as they are there.
        root: pipeline root of the run; without it the run's own, or Kubeflow's default.

    Returns:
        Names of what was written.

    Raises:
        InputError: the run has no artifacts there, or they cannot be read.
    """
    run = kubeflow.ask(f"read run {run_id!r}", kubeflow.client.get_run, run_id)
    own = run.runtime_config.pipeline_root if run.runtime_config else None
    place = f"{(root or own or ROOT).rstrip('/')}/{_pipeline_name(run)}/{run_id}"
    found = list(_artifacts(place, files_under(place)))
    if not found:
        text = (
            f"{without_secrets(place)}: no artifacts are there; give --root, the namespace's pipeline root "
            "(kubectl get configmap kfp-launcher -o jsonpath='{.data.defaultPipelineRoot}')"
        )
        raise InputError(text)
    output.mkdir(parents=True, exist_ok=True)
    written: set[str] = set()
    with tempfile.TemporaryDirectory(dir=output, prefix=".fetched-") as scratch:
        for number, (key, address) in enumerate(found):
            written |= _lay(key, local_copy(address, Path(scratch) / str(number)), output)
    for name in sorted(written):
        logger.info("fetched %s", output / name)
    if missing := EXPECTED - written:
        text = "not with this run: %s; a step that was taken from the cache left its files with an earlier run"
        logger.warning(text, ", ".join(sorted(missing)))
    return sorted(written)


def _lay(key: tuple[str, str], source: Path, output: Path) -> set[str]:
    """Put one artifact where a local run would; return the names that it got."""
    if key in _FILES:
        link_file(source, output / _FILES[key])
        return {_FILES[key]}
    if key == ("validate", "judgement"):
        link_file(source / "metrics.json", output / "metrics.json")
        link_folder(source / "plots", output / "plots")
        return {"metrics.json", "plots"}
    name = "bundle" if key == ("export", "exported") else f"bundles/{read_json(source / 'config.json')['family']}"
    link_folder(source, output / name)
    return {name}


def _pipeline_name(run: Any) -> str:
    content = run.pipeline_spec or {}
    specification = content.get("pipeline_spec", content)
    info = specification.get("pipelineInfo") or specification.get("pipeline_info") or {}
    if "name" not in info:
        raise InputError(f"run {run.run_id!r} does not say which pipeline it is of")
    return str(info["name"])


def _artifacts(place: str, found: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield task and artifact, and the address of the file or folder.

    Kubeflow writes ``<task>/<artifact>`` and, since 2.5, ``<task>/<random>/<artifact>``; the names of
    the artifacts tell them apart.
    """
    known = {*_FILES, *_FOLDERS}
    seen = set()
    for path in found:
        parts = PurePosixPath(path).parts
        for depth in (1, 2):
            if len(parts) > depth and (parts[0], parts[depth]) in known:
                address = f"{place}/{'/'.join(parts[: depth + 1])}"
                if address not in seen:
                    seen.add(address)
                    yield (parts[0], parts[depth]), address
                break
