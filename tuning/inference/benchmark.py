"""Compare all ways to get showers from a bundle: time, memory and size, beside Geant4's CPU time."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloforge.domain import spread_over
from caloforge.errors import InputError
from caloforge.files import write_json
from caloforge.models.bundle import Generator, bundle_folder, load_bundle
from caloforge.models.engines.variant import EngineUnavailable
from caloforge.outputs import check_folder, result_folder
from caloforge.progress import Progress
from caloforge.provenance import machine, provenance
from caloforge.result_kinds import BENCHMARK
from caloforge.serving.device import best_device
from caloforge.serving.limits import MAX_SHOWERS_PER_REQUEST
from caloforge.showers import Conditions, Showers
from caloforge.steps import step
from caloforge.temporary import scratch_folder
from caloforge.tuning.inference.benchmark_record import Benchmark, Seconds, Used, with_ratios
from caloforge.tuning.inference.benchmark_report import draw, page, table
from caloforge.tuning.inference.compiled import Compiled
from caloforge.tuning.inference.contest import ROUNDS, Contest
from caloforge.tuning.inference.graphs import with_graph
from caloforge.tuning.inference.optimise import check_mesh
from caloforge.tuning.inference.record import SIZES, Timing
from caloforge.tuning.inference.ways import Drawer, Way, ways

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]


def benchmark(
    bundle: Path,
    output: Path,
    *,
    showers: Showers | None = None,
    sizes: tuple[int, ...] = SIZES,
    seed: int = 0,
    overwrite: bool = False,
) -> Benchmark:
    """Measure every way to get showers from a bundle on this machine, and write the table, the plot and the figures.

    All of a generator's showers, one by one and in bulk, with one thread and with all: by this package in PyTorch, and as
    the variant that the bundle was given; by its ONNX graph alone; by the sampler in C++; by the server, through sockets.

    Args:
        bundle: the generator's folder.
        output: folder to write.
        showers: Geant4 showers, whose incident particles are taken, and whose CPU time stands beside; without them the
            energies are those of the training, evenly in log.
        sizes: numbers of showers that are asked for at once.
        seed: of the choice of showers.
        overwrite: see :func:`caloforge.outputs.check_folder`.

    Raises:
        InputError: the bundle is damaged, the showers are none of its detector or outside its training, more are asked for
            at once than a server answers, or the folder may not be written.
        EngineUnavailable: PyTorch itself fails, which all others are compared with.
    """
    sizes = tuple(sorted(set(sizes)))
    if max(sizes) > MAX_SHOWERS_PER_REQUEST:
        raise InputError(f"{max(sizes)} showers at once: a server answers {MAX_SHOWERS_PER_REQUEST} at most")
    bundle = bundle_folder(bundle)
    inputs = [bundle] if showers is None else [bundle, showers.path]
    check_folder(output, BENCHMARK, inputs=inputs, overwrite=overwrite)
    generator = load_bundle(bundle, device=best_device(), variant=False)
    conditions, geant4 = _particles(generator, showers, max(sizes), seed=seed)
    with step(f"benchmark {generator.family}"), scratch_folder() as scratch, ExitStack() as running:
        all_ways = list(ways(bundle, with_graph(bundle, generator, scratch), generator, scratch))
        contest = Contest[Drawer](needed=_key(all_ways[0], all_ways[0].names[0]))
        cold = _start(contest, all_ways, conditions, running)
        ms = contest.time(sizes)
        used = [_used(contest, way, name, cold=cold, ms=ms) for way in all_ways for name in way.names]
        told = {} if geant4 is None else {size: float(geant4[:size].mean()) for size in sizes}
        compilers = [one.made_by for one in contest.alive.values() if isinstance(one, Compiled)]
        files = {"weights": bundle / "weights.safetensors", **({} if showers is None else {"showers": showers.path})}
        result = Benchmark(
            family=generator.family, geometry=generator.geometry.name, voxels=generator.geometry.n_voxels,
            energy=float(conditions.incident_energy.mean()), sizes=sizes, rounds=ROUNDS,
            geant4=told, ways=with_ratios(used, told), machine=machine(), compiler=next(iter(compilers), ""), provenance=provenance(inputs=files, seed=seed),
        )  # fmt: skip
        running.close()
        with result_folder(output, BENCHMARK, inputs=inputs, overwrite=overwrite) as folder:
            write_json(folder / "benchmark.json", result.model_dump(mode="json"))
            (folder / "benchmark.md").write_text(table(result), encoding="utf-8")
            (folder / "benchmark.html").write_text(page(result), encoding="utf-8")
            for form in ("png", "svg"):
                draw(result, folder / f"benchmark.{form}")
    return result


def _particles(
    generator: Generator, showers: Showers | None, n: int, *, seed: int
) -> tuple[Conditions, FloatArray | None]:
    """Return the conditions of n showers, and the milliseconds that Geant4 took for each if that is known.

    The first has about the mean energy, and the others come in no order: a few are like all.
    """
    conditions, seconds = spread_over(generator.domains, n), None
    if showers is not None:
        check_mesh(showers, generator)
        conditions, seconds = showers.conditions, showers.cpu_seconds
        generator.check(conditions)
    energies = conditions.incident_energy
    order = np.random.default_rng(seed).permutation(len(conditions))
    first = int(np.argmin(np.abs(energies - energies.mean())))
    rows = np.resize([first, *order[order != first]], n)
    return conditions.take(rows), None if seconds is None else 1e3 * seconds[rows]


def _key(way: Way, name: str) -> str:
    return f"{name}, {way.threads or 'all'}"


def _used(
    contest: Contest[Drawer],
    way: Way,
    name: str,
    *,
    cold: Mapping[str, Seconds],
    ms: Mapping[str, dict[int, Timing]],
) -> Used:
    """Return what was found of a way, or why it was left out."""
    one, key = Used(name=name, threads=way.threads, runs=way.runs), _key(way, name)
    peak = 0.0
    if key in contest.alive:
        with contest.attempt(key):
            peak = contest.alive[key].peak_megabytes()
    if key in contest.left_out:
        return one.model_copy(update={"left_out": contest.left_out[key]})
    sizes = {"peak_mb": peak, "file_mb": way.file.stat().st_size / 1e6, "library_mb": way.library_mb}
    return one.model_copy(update={"ms": ms[key], "cold": cold[key], **sizes})


def _start(
    contest: Contest[Drawer], all_ways: list[Way], conditions: Conditions, running: ExitStack
) -> dict[str, Seconds]:
    """Start each way from cold, turn by turn, and keep the last of each; return how long the first shower took."""
    seconds: dict[str, list[float]] = {}
    progress = Progress("starting", ROUNDS * len(all_ways), unit="start")
    for number in range(ROUNDS):
        for place, way in enumerate(all_ways):
            with ExitStack() as stack:
                began = time.perf_counter()
                try:
                    drawers = {} if _key(way, way.names[0]) in contest.left_out else stack.enter_context(way.open())
                except EngineUnavailable:
                    for name in way.names:
                        with contest.attempt(_key(way, name)):
                            raise
                    drawers = {}
                opened = time.perf_counter() - began
                for name, drawer in drawers.items():
                    key = _key(way, name)
                    began = time.perf_counter()
                    with contest.attempt(key):
                        drawer.start(conditions)
                        seconds.setdefault(key, []).append(opened + time.perf_counter() - began)
                        contest.alive[key] = drawer
                if number == ROUNDS - 1:
                    running.push(stack.pop_all())
            progress.update(number * len(all_ways) + place + 1)
    return {
        key: Seconds(median=statistics.median(taken), least=min(taken), most=max(taken))
        for key, taken in seconds.items()
    }
