"""Find the fastest way to run a generator that costs no fidelity, by measurement on this machine."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.errors import InputError
from caloforge.files import write_json
from caloforge.models.agreement import TOLERANCE, relative_difference
from caloforge.models.bundle import Generator, bundle_folder, load_bundle, read_bundle_config, seal_bundle
from caloforge.models.engines.variant import VARIANT_FILE, VARIANT_GRAPH
from caloforge.models.export import ONNX_FILE
from caloforge.outputs import check_folder, result_folder
from caloforge.preprocessing.prepared import open_split
from caloforge.progress import Progress
from caloforge.provenance import machine, provenance
from caloforge.result_kinds import BUNDLE
from caloforge.showers import Conditions, Showers, open_showers
from caloforge.steps import step
from caloforge.temporary import scratch_folder
from caloforge.tuning.inference.candidates import Candidate, candidates
from caloforge.tuning.inference.choice import MOVED, choose, refusal, speed
from caloforge.tuning.inference.contest import ROUNDS, Contest
from caloforge.tuning.inference.fidelity import Judge, some
from caloforge.tuning.inference.graphs import with_graph
from caloforge.tuning.inference.record import Fidelity, Measured, Optimisation, OptimiseSettings
from caloforge.tuning.inference.report import draw, table
from caloforge.tuning.inference.stopwatch import Runner, running

logger = logging.getLogger(__name__)

FEWEST = 50
"""Fewer Geant4 showers cannot tell a variant's from the generator's."""

MOST = 1000
"""Showers of each kind that a variant is judged by."""

_MOVED_OF = 60


def optimise(
    bundle: Path,
    reference: Showers,
    other: Showers,
    output: Path,
    *,
    settings: OptimiseSettings | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Optimisation:
    """Copy a bundle, with the chosen variant in it if one is faster, and with the measurement.

    Args:
        bundle: the generator's folder; it is exported to ONNX if it is not yet.
        reference: Geant4 showers that the generator was not trained on, and not judged by at the end.
        other: more Geant4 showers, for the floors.
        output: bundle folder to write.
        settings: how it is measured and chosen.
        seed: of the showers and classifiers.
        overwrite: see :func:`caloforge.outputs.check_folder`.

    Raises:
        InputError: the bundle is damaged, the showers do not fit it or are too few, or the folder may not be written.
        EngineUnavailable: PyTorch itself fails, which all others are compared with.
    """
    settings = settings or OptimiseSettings()
    sizes, tolerance = sorted(set(settings.sizes)), settings.tolerance
    bundle = bundle_folder(bundle)
    check_folder(output, BUNDLE, inputs=[bundle], overwrite=overwrite)
    generator = load_bundle(bundle, variant=False)
    for showers in (reference, other):
        check_showers(showers, generator)
    n = min(len(reference), len(other), MOST)
    reference, other = (
        showers.select(np.linspace(0, len(showers) - 1, n, dtype=np.int64)) for showers in (reference, other)
    )
    with step(f"optimise {generator.family}"), scratch_folder() as scratch, ExitStack() as runners:
        exported = with_graph(bundle, generator, scratch)
        work = scratch / "graphs"
        work.mkdir()
        for name in ("config.json", *read_bundle_config(exported)["files"]):  # C++ reads the bundle itself
            shutil.copyfile(exported / name, work / name)
        tried = list(candidates(generator, exported, reference.conditions, compiled=settings.compiled))
        contest = Contest[Runner](needed=tried[0].variant.name)
        found = _start(contest, tried, exported, work, some(reference.conditions, max(*sizes, n)), runners)
        for name, ms in contest.time(sizes).items():
            found[name]["ms"] = ms
        floor = _judge(contest, found, generator, reference, other, tolerance=tolerance, seed=seed)
        for name, reason in contest.left_out.items():
            found[name]["refused"] = reason
        measured = [Measured(variant=one.variant, **found[one.variant.name]) for one in tried]
        measured = [one.model_copy(update={"speed": speed(one, measured[0])}) for one in measured]
        chosen, why = choose(measured)
        result = Optimisation(
            family=generator.family, showers=n, sizes=tuple(sizes), rounds=ROUNDS, tolerance=tolerance, floor=floor,
            candidates=tuple(measured), chosen=chosen.variant.name, why=why, machine=machine(),
            provenance=provenance(inputs={"weights": bundle / "weights.safetensors", "showers": reference.path}, seed=seed),
        )  # fmt: skip
        runners.close()
        with result_folder(output, BUNDLE, inputs=[bundle], overwrite=overwrite) as folder:
            _write(folder, exported, work, result)
    logger.info("chosen: %s (%s)", result.chosen, result.why)
    return result


def two_samples(
    showers: Path, prepared: Path | None, *, geometry: str | None = None, seed: int = 0
) -> tuple[Showers, Showers]:
    """Return Geant4 showers to judge by, and others for the floors.

    Args:
        showers: the shower file.
        prepared: folder of the generator's prepared data: its validation and training splits are taken. None: the
            halves of the file, at random.
        geometry: the mesh, where there is no prepared data.
        seed: of the halves.

    Raises:
        InputError: they cannot be read.
    """
    if prepared is not None:
        return open_split(showers, prepared, "validation"), open_split(showers, prepared, "train")
    whole = open_showers(showers, geometry)
    order = np.random.default_rng(seed).permutation(len(whole))
    half = len(whole) // 2
    return whole.select(np.sort(order[:half])), whole.select(np.sort(order[half:]))


def check_mesh(showers: Showers, generator: Generator) -> None:
    """Refuse showers that are not those of a generator's detector.

    Raises:
        InputError: they have other voxels.
    """
    if showers.geometry.n_voxels != generator.geometry.n_voxels:
        raise InputError(
            f"{showers.path}: has {showers.geometry.n_voxels} voxels, the generator {generator.geometry.n_voxels}"
        )


def check_showers(showers: Showers, generator: Generator) -> None:
    """Refuse showers that a generator cannot be judged by.

    Raises:
        InputError: mesh or conditions do not fit, or they are too few.
    """
    check_mesh(showers, generator)
    if len(showers) < FEWEST:
        raise InputError(f"{showers.path}: {len(showers)} showers to judge by; {FEWEST} or more are needed")
    generator.check(showers.conditions)


def _start(
    contest: Contest[Runner],
    tried: Sequence[Candidate],
    bundle: Path,
    work: Path,
    conditions: Conditions,
    runners: ExitStack,
) -> dict[str, dict[str, Any]]:
    """Make the graphs and start all candidates; return what was found of each."""
    found: dict[str, dict[str, Any]] = {one.variant.name: {} for one in tried}
    for candidate in tried:
        variant = candidate.variant
        with contest.attempt(variant.name):
            if candidate.write is not None:
                candidate.write(work)
            runner = runners.enter_context(running(bundle, variant, work))
            started = runner.start(conditions)
            size = (work / variant.graph if variant.graph else bundle / "weights.safetensors").stat().st_size
            found[variant.name] = {
                "load_seconds": started.load_seconds, "first_seconds": started.first_seconds, "graph_mb": size / 1e6,
            }  # fmt: skip
            contest.alive[variant.name] = runner
    return found


def _judge(
    contest: Contest[Runner],
    found: dict[str, dict[str, Any]],
    generator: Generator,
    reference: Showers,
    other: Showers,
    *,
    tolerance: float,
    seed: int,
) -> Fidelity:
    """Judge the showers of all, and return the floor."""
    n = len(reference)
    first, *others = contest.alive
    with contest.attempt(first):
        judge = Judge(reference, other, generator, seed=seed, plain=contest.alive[first].draw(n, seed + 1))
        usual = contest.alive[first].draw(n, seed)
    plain = judge.judge(usual)
    found[first]["fidelity"] = plain
    progress = Progress("judging", len(others) + 1, unit="variant")
    for number, name in enumerate((first, *others)):
        with contest.attempt(name):
            runner = contest.alive[name]
            if name in others:
                showers = runner.draw(n, seed)
                # Rounding apart the same showers: they need no other judgement.
                same = (relative_difference(showers, usual, generator.threshold) <= TOLERANCE).all()
                found[name]["fidelity"] = fidelity = plain if same else judge.judge(showers)
                found[name]["refused"] = refusal(fidelity, plain, tolerance=tolerance)
            moved = _moved(runner, min(n, _MOVED_OF), seed, generator)
            found[name] |= {"moved": moved, "peak_mb": runner.peak_megabytes()}
            if moved > MOVED + generator.network.flipped_share and name in others:
                found[name]["refused"] = f"the same seed gives other showers in other batches ({moved:.0%} of them)"
        progress.update(number + 1)
    return judge.floor(usual)


def _moved(runner: Runner, n: int, seed: int, generator: Generator) -> float:
    """Return the share of showers that are others in other batches."""
    whole, parts = (runner.draw(n, seed, batch_size) for batch_size in (n, 7))
    return float((relative_difference(parts, whole, generator.threshold) > TOLERANCE).mean())


def _write(folder: Path, bundle: Path, work: Path, result: Optimisation) -> None:
    """Copy the bundle and add what was chosen and what was measured."""
    config = read_bundle_config(bundle)
    for name in config["files"]:
        if name not in (VARIANT_FILE, VARIANT_GRAPH):
            shutil.copyfile(bundle / name, folder / name)
    chosen = result.winner.variant
    if result.winner is not result.candidates[0]:
        if chosen.graph not in ("", ONNX_FILE):
            shutil.copyfile(work / chosen.graph, folder / VARIANT_GRAPH)
            chosen = chosen.model_copy(update={"graph": VARIANT_GRAPH})
        write_json(folder / VARIANT_FILE, chosen.model_dump(mode="json"))
    write_json(folder / "optimisation.json", result.model_dump(mode="json"))
    (folder / "optimisation.md").write_text(table(result), encoding="utf-8")
    draw(result, folder / "optimisation.png")
    seal_bundle(folder, {key: value for key, value in config.items() if key != "files"})
