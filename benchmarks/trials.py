"""Train, draw and judge many generators side by side, each in processes of one thread; what is done is not done again.

``learning_curve.py`` stands on it; families are compared by ``caloforge compare-families``.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import yaml

from caloforge.files import read_json, write_json
from caloforge.models.bundle import load_bundle
from caloforge.models.likelihood.log_prob import TOTAL, log_probs
from caloforge.preprocessing.prepare import PrepareSettings, prepare
from caloforge.preprocessing.prepared import load_prepared, open_split
from caloforge.showers import Showers, cut, open_showers, write_showers
from caloforge.validation.judgement import Judgement
from caloforge.validation.row import HEADLINE

FIGURES = {"auc": "AUC", "auc_low": "voxel AUC", "fpd": "FPD", "mean_separation": "mean separation"}
"""Names of the headline figures that are compared, and what tables call them."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Trial:
    """One training and what becomes of it.

    Attributes:
        name: of its folder.
        family: generator family.
        minutes: of one thread; as wall-clock time, so each trial wants a core to itself.
        prepared: folder of the prepared data.
        overrides: settings on top of the preset ``demo``.
    """

    name: str
    family: str
    minutes: float
    prepared: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)


def standard_split(data: Path, folder: Path) -> Path:
    """Prepare a shower file with the usual settings; write what generators are judged on.

    ``reference.hdf5`` is the test split, ``floor.hdf5`` the validation split, a second sample of Geant4.

    Returns:
        The folder of the prepared data.
    """
    prepared = folder / "prepared"
    if not prepared.is_dir():
        prepare(open_showers(data), prepared, settings=PrepareSettings())
    for name, split in (("reference", "test"), ("floor", "validation")):
        if not (folder / f"{name}.hdf5").is_file():
            _copy(open_split(data, prepared, split), folder / f"{name}.hdf5", load_prepared(prepared).threshold)
    return prepared


def run(trials: Iterable[Trial], data: Path, folder: Path, *, parallel: int) -> list[dict[str, Any]]:
    """Run trials, ``parallel`` at a time, and return what was measured of each, in their order.

    Args:
        trials: what to train.
        data: shower file.
        folder: where :func:`standard_split` put its files; a folder for each trial goes beside them.
        parallel: trials at a time.

    Returns:
        For each: its name, family and minutes; ``cpu_minutes`` of the training, ``showers`` it had,
        ``parameters``, ``ms`` of one thread for a shower; :data:`FIGURES` with ``_error`` and ``_floor``; the
        ``verdict``; and for families with an exact likelihood ``nll``, nats for each shower of the test split.
    """
    trials = list(trials)
    with ThreadPoolExecutor(parallel) as pool:
        return list(pool.map(lambda trial: _run(trial, data, folder), trials))


def _run(trial: Trial, data: Path, folder: Path) -> dict[str, Any]:
    own = folder / trial.name
    done = own / "trial.json"
    if done.is_file():
        return dict(read_json(done))
    own.mkdir(parents=True, exist_ok=True)
    (own / "overrides.yaml").write_text(yaml.safe_dump(dict(trial.overrides)))
    reference, floor, generated = folder / "reference.hdf5", folder / "floor.hdf5", own / "generated.hdf5"
    cpu = _caloforge(
        own, "train", "--data", data, "--prepared", trial.prepared, "--family", trial.family,
        "--overrides", own / "overrides.yaml", "--max-minutes", trial.minutes, "-o", own / "bundle",
    )  # fmt: skip
    _caloforge(own, "generate", "--bundle", own / "bundle", "--like", reference, "--seed", 1, "-o", generated)
    _caloforge(
        own, "validate", "--reference", reference, "--generated", generated, "--floor", floor, "-o", own / "report"
    )
    found = Judgement.read(own / "report" / "metrics.json")
    rows = {name: found.row("generated", HEADLINE, name) for name in FIGURES}
    write_json(
        done,
        {
            "name": trial.name, "family": trial.family, "minutes": trial.minutes, "cpu_minutes": cpu / 60,
            "showers": len(load_prepared(trial.prepared).splits["train"]), "n": found.n,
            "verdict": found.verdict.sentence, "sigma": found.verdict.sigma, **_measured(own / "bundle", reference),
            **{name: row.value for name, row in rows.items()},
            **{f"{name}_error": row.error for name, row in rows.items()},
            **{f"{name}_floor": row.floor for name, row in rows.items()},
        },
    )  # fmt: skip
    return dict(read_json(done))


def _caloforge(folder: Path, *words: Any) -> float:
    """Run a command with one thread, its output in a log; return its seconds of CPU."""
    command = [sys.executable, "-m", "caloforge", *map(str, words)]
    with (folder / "log.txt").open("ab") as log:
        process = psutil.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | ONE_THREAD)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed; see {folder / 'log.txt'}")
    return usage.ru_utime + usage.ru_stime


def _measured(bundle: Path, reference: Path) -> dict[str, float]:
    """Return parameters, ms of CPU for a shower at 1000 at once, and the negative log-likelihood if there is one."""
    words = [sys.executable, __file__, str(bundle), str(reference)]
    out = subprocess.run(words, env=os.environ | ONE_THREAD, check=True, capture_output=True, text=True).stdout
    parameters, milliseconds, *nll = map(float, out.split())
    return {"parameters": parameters, "ms": milliseconds, **({"nll": nll[0]} if nll else {})}


def _copy(showers: Showers, path: Path, threshold: float) -> None:
    with write_showers(path, showers.geometry, attributes={"energy_threshold": threshold}, provenance={}) as writer:
        for conditions, voxels in showers.pairs():
            writer.append(conditions, cut(voxels, threshold))


def _measure() -> None:
    """Print what :func:`_measured` wants of a bundle, in a process that has one thread."""
    torch.set_num_threads(1)
    generator = load_bundle(Path(sys.argv[1]))
    showers = open_showers(Path(sys.argv[2]))
    rows = np.resize(np.arange(len(showers)), 1000)
    conditions = showers.conditions.take(rows)
    generator.sample(conditions.take(slice(0, 100)), seed=0, batch_size=100)  # what is made once does not count
    start = time.process_time()
    generator.sample(conditions, seed=0, batch_size=1000)
    milliseconds = time.process_time() - start
    print(sum(weights.numel() for weights in generator.network.parameters()), milliseconds)
    if generator.network.has_likelihood:
        print(-sum(float(found[TOTAL].sum()) for found in log_probs(generator.network, showers)) / len(showers))


if __name__ == "__main__":
    logging.disable()
    _measure()
