"""Load a server with 64 clients over JSON, binary and gRPC: wrong and failed answers, CPU, latency, memory.

Usage: OMP_NUM_THREADS=1 python benchmarks/serving.py BUNDLE [--requests N] [--small]

Also 1 and 64 clients that ask for one shower at a time: showers per second of the server's CPU time, and what its
/metrics says of batches and stages. ``--small`` does nothing else. Ends with 1 if an answer is wrong or failed, or a figure is worse than what the table in README.md promises.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families

from caloforge.domain import spread_over
from caloforge.models.agreement import TOLERANCE, relative_difference, that_must_agree
from caloforge.models.bundle import Generator, load_bundle
from caloforge.serving.client import query
from caloforge.serving.local import free_port, running_server
from caloforge.serving.protocols import Ask, protocols

CLIENTS = 64
SIZES = (1, 2, 5, 20, 100, 500)
SEEDS = (1, 2)
LONG_CLIENTS, LONG = 8, 500
SHORT_QUERIES = 100
SMALL = {1: 20, 64: 256}
"""Clients that ask for one shower at a time, and requests of all of them."""
SETTLE_SECONDS = 4

MOST_CPU = 1.1
MOST_SECONDS = 2.0


def load(asks: dict[str, Ask], generator: Generator, process: psutil.Process, n: int) -> tuple[Counter[str], float]:
    """Have 64 clients ask ``n`` times in all; returns what came of it, and CPU per shower relative to in-process."""
    kinds = list(itertools.product(SIZES, SEEDS))
    expected, spent = {}, {}
    for size, seed in kinds:
        begin = time.process_time()
        expected[size, seed] = generator.sample(spread_over(generator.domains, size), seed=seed)
        spent[size, seed] = time.process_time() - begin

    def one(job: tuple[str, tuple[int, int]]) -> str:
        protocol, (size, seed) = job
        try:
            showers = asks[protocol](spread_over(generator.domains, size), seed)
        except Exception as error:  # noqa: BLE001  it is counted
            return f"failed over {protocol}: {type(error).__name__}: {error}"[:200]
        return "right" if agrees(showers, expected[size, seed], generator) else f"wrong over {protocol}"

    jobs = [(protocol, kind) for kind, protocol in itertools.islice(itertools.cycle(itertools.product(kinds, asks)), n)]
    np.random.default_rng(1).shuffle(jobs)
    jobs = [(str(protocol), (int(size), int(seed))) for protocol, (size, seed) in jobs]
    before = cpu_seconds(process)
    with ThreadPoolExecutor(CLIENTS) as pool:
        results = Counter(pool.map(one, jobs))
    in_process = sum(spent[kind] for _, kind in jobs)
    return results, (cpu_seconds(process) - before) / in_process


def agrees(showers: np.ndarray, expected: np.ndarray, generator: Generator) -> bool:
    """Tell whether showers are those of in-process sampling."""
    if showers.shape != expected.shape:
        return False
    differences = relative_difference(showers, expected, generator.threshold)
    return bool(that_must_agree(differences, generator.network.flipped_share).max(initial=0) <= TOLERANCE)


def short_queries(asks: dict[str, Ask], generator: Generator) -> list[float]:
    """Return the seconds of each query for one shower while eight clients ask for 500 each, over and over."""
    over = threading.Event()
    long, short = spread_over(generator.domains, LONG), spread_over(generator.domains, 1)

    def busy(number: int) -> None:
        while not over.is_set():
            asks["binary"](long, number)

    seconds = []
    with ThreadPoolExecutor(LONG_CLIENTS) as pool:
        running = [pool.submit(busy, number) for number in range(LONG_CLIENTS)]
        time.sleep(1)
        for seed in range(SHORT_QUERIES):
            begin = time.perf_counter()
            asks["binary"](short, seed)
            seconds.append(time.perf_counter() - begin)
        over.set()
        for one in running:
            one.result()
    return seconds


def small_requests(url: str, generator: Generator, process: psutil.Process) -> None:
    """Print what single showers cost the server, asked for by one client and by many."""
    one = spread_over(generator.domains, 1)
    for clients, n in SMALL.items():
        told, spent = metrics(url), cpu_seconds(process)

        def ask(seed: int) -> float:
            begin = time.perf_counter()
            query(url, one, seed=seed)
            return time.perf_counter() - begin

        with ThreadPoolExecutor(clients) as pool:
            seconds = list(pool.map(ask, range(n)))
        spent, told = cpu_seconds(process) - spent, {name: value - told[name] for name, value in metrics(url).items()}
        stages = ", ".join(
            f"{stage} {1e3 * told[f'caloforge_stage_seconds_sum {stage}'] / n:.1f}"
            for stage in ("decode", "wait", "sampling", "encode")
        )
        print(
            f"one shower, {clients:2d} clients: {n / spent:.1f} showers per CPU second, median {np.median(seconds):.3f} s, "
            f"{n / told['caloforge_batch_showers_count']:.1f} in a batch; ms of a request: {stages}"
        )


def metrics(url: str) -> dict[str, float]:
    """Return the sums and counts that the server tells of itself."""
    text = httpx.get(f"{url}/metrics", timeout=60, trust_env=False).text
    names = ("caloforge_stage_seconds_sum", "caloforge_batch_showers_count")
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in names
    }


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def megabytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 1e6)


@contextmanager
def peak_memory(process: psutil.Process) -> Iterator[list[float]]:
    """Yield a list that has the greatest memory in MB at the end."""
    peak, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            peak[0] = max(peak[0], megabytes(process))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def serving_process() -> psutil.Process:
    (process,) = [child for child in psutil.Process().children() if "serve" in child.cmdline()]
    return process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=192)
    parser.add_argument("--small", action="store_true")
    options: Any = parser.parse_args()
    generator = load_bundle(options.bundle)
    port = free_port()
    with (
        running_server(options.bundle, grpc_port=port) as url,
        protocols(url, port, generator.condition_names, connections=CLIENTS) as asks,
    ):
        process = serving_process()
        for ask in asks.values():
            ask(spread_over(generator.domains, 1), 0)
        small_requests(url, generator, process)
        if options.small:
            return
        rest = megabytes(process)
        with peak_memory(process) as peak:
            results, cpu = load(asks, generator, process, options.requests)
            seconds = short_queries(asks, generator)
        time.sleep(SETTLE_SECONDS)
        after = megabytes(process)
    right = results.pop("right", 0)
    latest = float(np.quantile(seconds, 0.99))
    print(f"{generator.family}, {generator.geometry.n_voxels} voxels, {CLIENTS} clients, {options.requests} requests")
    print(f"right answers        {right} of {options.requests}")
    for what, count in results.items():
        print(f"  {count} {what}")
    print(f"CPU per shower       {cpu:.2f} times in-process (at most {MOST_CPU})")
    print(
        f"one shower beside {LONG_CLIENTS} x {LONG}: median {np.median(seconds):.3f} s, p99 {latest:.3f} s (at most {MOST_SECONDS:g})"
    )
    print(
        f"memory               {rest:.0f} MB before, {peak[0]:.0f} MB at most, {after:.0f} MB {SETTLE_SECONDS} s after"
    )
    if right < options.requests or cpu > MOST_CPU or latest > MOST_SECONDS:
        sys.exit(1)


if __name__ == "__main__":
    main()
