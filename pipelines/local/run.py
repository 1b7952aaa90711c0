"""Run the whole pipeline on this machine: the compiled YAML, through kfp.local, into one folder."""

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caloforge.alone import alone
from caloforge.child import Child
from caloforge.components.family import FAILED
from caloforge.errors import InputError
from caloforge.files import read_json, sha256, write_json
from caloforge.geometry import Geometry, geometry_attributes
from caloforge.outputs import Written, check_claim, claim_folder, put_files, refuse_changed
from caloforge.pipelines.layout import PIPELINE, TIMINGS
from caloforge.pipelines.local.collect import collect
from caloforge.pipelines.local.leftovers import remove_leftovers
from caloforge.pipelines.local.logs import RunLog
from caloforge.pipelines.local.timings import timings
from caloforge.pipelines.settings import PipelineSettings
from caloforge.pipelines.version import code_version
from caloforge.pods import SecretKey
from caloforge.preprocessing.prepare import check_showers
from caloforge.result_kinds import RUN
from caloforge.showers import open_showers
from caloforge.space import space_told, tells_of_space
from caloforge.steps import STEP_LOG
from caloforge.temporary import scratch_folder
from caloforge.validation.judgement import Judgement
from caloforge.validation.report.leaderboard import Leaderboard
from caloforge.webhook import WEBHOOK

logger = logging.getLogger(__name__)

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_SIDE_BY_SIDE = 2  # kfp.local runs at most so many iterations of a loop at a time


class StepError(RuntimeError):
    """A step of the pipeline failed; the message names it and ends with its last lines."""


@dataclass(frozen=True)
class LocalRun:
    """What a run left in its folder.

    Attributes:
        output: the folder.
        leaderboard: what ``leaderboard.json`` holds.
        metrics: what ``metrics.json`` holds.
        timings: content of ``timings.json``.
    """

    output: Path
    leaderboard: Leaderboard
    metrics: Judgement
    timings: dict[str, Any]


def run_local(
    data: Path,
    output: Path,
    *,
    geometry: Geometry | str | Path | None = None,
    settings: PipelineSettings | None = None,
    overwrite: bool = False,
) -> LocalRun:
    """Run the pipeline on a shower file, or go on where an earlier run into the folder stopped.

    Finished steps are kept as long as data, settings and code are the same; a training that was
    stopped goes on from its last checkpoint.

    Args:
        data: CaloChallenge HDF5 file.
        output: folder for the results, the steps' own files (``steps/``), checkpoints and ``run.log``.
        geometry: the showers' geometry, its name, binning XML or CSV of cells; without it the file's own.
        settings: settings of the pipeline.
        overwrite: the folder may hold files of others, which stay.

    Raises:
        InputError: the data, the folder or a setting is wrong.
        StepError: a step failed.
    """
    settings = settings or PipelineSettings()
    claim(output, inputs=[data], overwrite=overwrite, mark=False)
    showers = open_showers(data.absolute(), geometry)
    _ = showers.conditions  # refuses wrong energies now and not in a minute
    check_showers(showers, settings.prepare)
    output = claim(output, inputs=[data], overwrite=overwrite)
    start = time.monotonic()
    logger.info("%d showers of %s, %s", len(showers), showers.geometry.name, data)
    version = code_version()
    with alone(output), space_told(output):
        _adopt(output)
        refuse_changed(output, [PIPELINE, TIMINGS])
        (output / "steps").mkdir(exist_ok=True)
        arguments = {"data": str(showers.path), "data_sha256": sha256(showers.path)}
        if geometry is not None:
            arguments["geometry"] = json.dumps(geometry_attributes(showers.geometry))
        changes: dict[str, Any] = {
            "code_version": version,
            # Other code may not understand the state that this one saved.
            "checkpoints": str(output / "checkpoints" / version),
            # Nobody pre-empts a task here: what fails would fail again. A run that was stopped goes on from the cache.
            "retries": 0,
            "cache": True,
            # The showers are one file already.
            "simulate": None,
            "data": "",
            "test": (),
            "convert": False,
        }
        if os.environ.get(WEBHOOK) and settings.webhook is None:
            changes["webhook"] = SecretKey(secret="environment", key=WEBHOOK)  # the address itself stays there
        settings = settings.model_copy(update=changes)
        _forget_failures(output / "steps")
        remove_leftovers(output / "steps")
        with scratch_folder() as scratch:
            outputs = _execute(settings, arguments, output, scratch)
        collect(Path(outputs["index"]["path"]), output)
        remove_leftovers(output / "steps")
        shutil.rmtree(output / "checkpoints" / version, ignore_errors=True)
        with suppress(OSError):  # another version of the code went no further
            (output / "checkpoints").rmdir()
        record = timings(output / "steps" / "times.jsonl", start=start, end=time.monotonic())
        with put_files(output, RUN) as folder:
            write_json(folder / TIMINGS, record)
    return LocalRun(
        output, Leaderboard.read(output / "leaderboard.json"), Judgement.read(output / "metrics.json"), record
    )


def claim(output: Path, *, inputs: Iterable[Path], overwrite: bool = False, mark: bool = True) -> Path:
    """Make a folder that of a run, unless it holds what caloforge did not write, and return it without links.

    Args:
        output: the folder.
        inputs: files that the run reads; what it fetched into the folder itself does not count.
        overwrite: files of others may lie beside; they stay.
        mark: False: only look whether it may be.

    Raises:
        InputError: see :func:`caloforge.outputs.claim_folder`.
    """
    fetched = output.absolute() / "data"
    given = [path for path in inputs if fetched not in path.absolute().parents]
    take = claim_folder if mark else check_claim
    return take(output, RUN, inputs=given, overwrite=overwrite)


def _adopt(output: Path) -> None:
    """Note as ours what a version left that kept no record of it."""
    written = Written(output)
    if PIPELINE not in written.laid and (output / "steps" / "cache").is_dir():
        found = {name: [sha256(output / name)] for name in (PIPELINE, TIMINGS) if (output / name).is_file()}
        written.note(RUN, {**written.laid, **found})


def _forget_failures(steps: Path) -> None:
    """Have families that failed in an earlier run tried again: a step whose result is gone is repeated."""
    for note in list(steps.glob(f"**/{FAILED}")):
        shutil.rmtree(note.parent)


def _execute(settings: PipelineSettings, arguments: dict[str, Any], output: Path, scratch: Path) -> dict[str, Any]:
    """Run :mod:`caloforge.pipelines.local.execute` and return the outputs of the pipeline."""
    results = output / "steps" / "outputs.json"
    results.unlink(missing_ok=True)
    request = {
        "settings": settings.model_dump(mode="json"),
        "arguments": arguments,
        "output": str(output),
        "steps": str(output / "steps"),
        "cache": str(output / "steps" / "cache"),
        "outputs": str(results),
    }
    threads = str(max(1, (os.cpu_count() or 1) // min(_SIDE_BY_SIDE, len(settings.families))))
    environment = {
        **{name: os.environ.get(name, threads) for name in _THREADS},
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(scratch),  # kfp leaves a folder there for each step
        STEP_LOG: str(output / "steps" / "times.jsonl"),
    }
    command = [sys.executable, "-m", "caloforge.pipelines.local.execute"]
    with (output / "run.log").open("a") as file:
        log = RunLog(file)
        with (
            Child(command, what="the run", environment=environment, hear=log.feed, given=json.dumps(request)) as child,
            _said_when_interrupted(),
        ):
            child.read()
            code = child.wait()
    if code == 0:
        return dict(read_json(results))
    if log.input_error:
        raise InputError(log.input_error)
    if tells_of_space(log.cause):
        raise StepError(f"step {log.failed or 'pipeline'!r} failed: {log.cause}")
    cause = f": {log.cause}" if log.cause else ""
    msg = (
        f"step {log.failed or 'pipeline'!r} failed{cause} (all of its output: {output / 'run.log'}); "
        f"it ended with:\n{log.tail()}"
    )
    raise StepError(msg)


@contextmanager
def _said_when_interrupted() -> Iterator[None]:
    try:
        yield
    except BaseException:
        logger.info("stopping; the same command goes on from here")
        raise
