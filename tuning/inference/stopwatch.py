"""A candidate in a process of its own, that loads it, draws with it when told, and says what that took."""

from __future__ import annotations

import multiprocessing
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from caloforge.models.engines.variant import EngineUnavailable, Variant
from caloforge.showers import Conditions

_PRELOADED = ["caloforge.models.bundle", "caloforge.models.families.tree", "onnxruntime"]
"""Imported once, in the process that the others branch off from: a start then takes no time."""

_GONE = "its process ended; was there enough memory?"


@dataclass(frozen=True)
class Started:
    """What a candidate's start took.

    Attributes:
        load_seconds: until it could draw.
        first_seconds: of the first shower.
    """

    load_seconds: float
    first_seconds: float


class Runner:
    """A candidate that runs elsewhere; made by :func:`running`."""

    def __init__(self, connection: Connection, name: str, pid: int) -> None:
        """Talk to a process through a pipe."""
        self._connection, self._name, self._pid = connection, name, pid

    def ask(self, what: str, *arguments: Any) -> Any:
        """Have the process do something and return what it answers.

        Raises:
            EngineUnavailable: it cannot, or is gone.
        """
        try:
            self._connection.send((what, arguments))
            fine, answer = self._connection.recv()
        except (EOFError, OSError):
            raise EngineUnavailable(f"{self._name}: {_GONE}") from None
        if not fine:
            raise EngineUnavailable(f"{self._name}: {answer}")
        return answer

    def start(self, conditions: Conditions) -> Started:
        """Load the candidate and draw the first shower."""
        return Started(*self.ask("start", conditions))

    def seconds(self, n: int) -> float:
        """Return how long n showers take."""
        return float(self.ask("seconds", n))

    def draw(self, n: int, seed: int, batch_size: int | None = None) -> NDArray[np.float32]:
        """Return the first n showers, (n, V) MeV."""
        showers: NDArray[np.float32] = self.ask("draw", n, seed, batch_size)
        return showers

    def peak_megabytes(self) -> float:
        """Return the most memory that the process has had so far."""
        return peak_megabytes(self._pid)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used so far."""
        return cpu_seconds(self._pid)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and its threads have used so far.

    Raises:
        EngineUnavailable: it is gone.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3), in nanoseconds, of Linux
    except OSError:
        pass
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        raise EngineUnavailable(_GONE) from None
    return float(times.user + times.system)


def peak_megabytes(pid: int) -> float:
    """Return the most memory that a process has had resident since its program was started.

    Not what ``getrusage`` says: there a process that was just started has the memory of the one that started it.

    Raises:
        EngineUnavailable: it is gone.
    """
    status = Path(f"/proc/{pid}/status")
    if status.is_file() and (
        found := re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"), re.MULTILINE)
    ):
        return int(found[1]) * 1024 / 1e6
    try:
        return float(psutil.Process(pid).memory_info().rss) / 1e6
    except psutil.NoSuchProcess:
        raise EngineUnavailable(_GONE) from None


@contextmanager
def running(bundle: Path | None, variant: Variant, folder: Path, *, cold: bool = False) -> Iterator[Runner]:
    """Start a process for a candidate, which ends with the block.

    Args:
        bundle: the generator; None for the graph alone, as a program without this package and PyTorch runs it.
        variant: how it is run.
        folder: where its graph lies.
        cold: start the interpreter and import everything anew, as a program does that is called once.
    """
    if cold:
        context: Any = multiprocessing.get_context("spawn")
    else:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, bundle, variant, folder), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Runner(ours, variant.name, process.pid)
    finally:
        ours.close()
        process.join(10)
        process.kill()
        process.join()


class _Server:
    """What the process does."""

    def __init__(self, bundle: Path, variant: Variant, folder: Path) -> None:
        self._bundle, self._variant, self._folder = bundle, variant, folder

    def start(self, conditions: Conditions) -> tuple[float, float]:
        from caloforge.models.bundle import load_bundle

        began = time.perf_counter()
        self._generator = load_bundle(self._bundle, device=self._variant.device, variant=False)
        self._generator.run_as(self._variant, self._folder)
        loaded = time.perf_counter()
        self._conditions = conditions
        self.draw(1, 0)
        return loaded - began, time.perf_counter() - loaded

    def draw(self, n: int, seed: int, batch_size: int | None = None) -> NDArray[np.float32]:
        from caloforge.models.bundle import GeneratorFailed

        try:
            return self._generator.sample(self._conditions.take(slice(0, n)), seed=seed, batch_size=batch_size)
        except GeneratorFailed:  # the generator itself was checked: the fault is the variant's
            raise EngineUnavailable("makes showers that are not finite") from None

    def seconds(self, n: int) -> float:
        began = time.perf_counter()
        self.draw(n, 1)
        return time.perf_counter() - began


class _Graph:
    """What the process of a graph alone does: ONNX Runtime and numpy's own random numbers."""

    def __init__(self, variant: Variant, folder: Path) -> None:
        self._variant, self._folder = variant, folder

    def start(self, conditions: Conditions) -> tuple[float, float]:
        from caloforge.models.engines.onnx import open_session

        began = time.perf_counter()
        self._session = open_session(self._variant, self._folder / self._variant.graph)
        *names, noise = self._session.get_inputs()
        self._noise: tuple[str, int] = noise.name, noise.shape[1]
        self._columns = {one.name: getattr(conditions, one.name)[:, None].astype(np.float32) for one in names}
        loaded = time.perf_counter()
        self.seconds(1)
        return loaded - began, time.perf_counter() - loaded

    def seconds(self, n: int) -> float:
        began = time.perf_counter()
        name, features = self._noise
        noise = np.random.default_rng(1).standard_normal((n, features), np.float32)
        self._session.run(["showers"], {**{key: column[:n] for key, column in self._columns.items()}, name: noise})
        return time.perf_counter() - began


def _serve(connection: Connection, bundle: Path | None, variant: Variant, folder: Path) -> None:
    server = _Graph(variant, folder) if bundle is None else _Server(bundle, variant, folder)
    with suppress(EOFError, BrokenPipeError):  # who asked has ended, or was killed
        while True:
            what, arguments = connection.recv()
            try:
                answer = True, getattr(server, what)(*arguments)
            except Exception as error:  # noqa: BLE001  it is told to the one who asked
                answer = False, (str(error).splitlines() or [type(error).__name__])[0]
            connection.send(answer)
