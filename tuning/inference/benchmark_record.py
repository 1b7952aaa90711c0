"""What was measured of each way to get showers from a bundle."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field

from caloforge.config import Config
from caloforge.tuning.inference.record import Timing


class Seconds(Config):
    """A time in seconds over the rounds of the measurement."""

    median: float
    least: float
    most: float


class Used(Config):
    """A way to get showers.

    Attributes:
        name: what it is.
        threads: 1, or 0 for all.
        runs: what computes the showers within it, where that is something else.
        ms: milliseconds per shower by the number of showers asked for at once.
        cold: from the start of its process to the first shower.
        peak_mb: most memory of its process, libraries included.
        file_mb: size on disk of the generator as it is read.
        library_mb: size on disk of the library that runs it, or of the program.
        speed: how many times faster than PyTorch with as many threads, the geometric mean over the sizes.
        beside_geant4: how many times less CPU time than Geant4 it takes, by the number of showers asked for at once.
        left_out: why it was not measured; empty if it was.
    """

    name: str
    threads: int
    runs: str = ""
    ms: dict[int, Timing] = Field(default_factory=dict)
    cold: Seconds | None = None
    peak_mb: float = 0
    file_mb: float = 0
    library_mb: float = 0
    speed: float = 0
    beside_geant4: dict[int, float] = Field(default_factory=dict)
    left_out: str = ""

    @property
    def threads_told(self) -> str:
        """The number of threads in words."""
        return "1 thread" if self.threads == 1 else "all threads"


class Benchmark(Config):
    """A whole measurement; the content of ``benchmark.json``.

    Attributes:
        family: of the generator.
        geometry: name of the mesh.
        voxels: of a shower.
        energy: mean incident energy of the showers, MeV.
        sizes: numbers of showers that were asked for at once.
        rounds: how often each was timed, and started.
        geant4: milliseconds of CPU time that the full simulation took for one of the same showers, by the number of
            showers asked for at once; empty where the file does not say it.
        ways: those that were measured, and those that could not be.
        machine: processor and cores.
        compiler: what the program in C++ was made by, and its instruction set; empty without one.
        provenance: of the measurement, with the versions.
    """

    family: str
    geometry: str
    voxels: int
    energy: float
    sizes: tuple[int, ...]
    rounds: int
    geant4: dict[int, float] = Field(default_factory=dict)
    ways: tuple[Used, ...] = Field(min_length=1)
    machine: dict[str, Any]
    compiler: str = ""
    provenance: dict[str, Any]

    @property
    def measured(self) -> tuple[Used, ...]:
        """The ways that were measured."""
        return tuple(one for one in self.ways if not one.left_out)


def with_ratios(ways: list[Used], geant4: dict[int, float]) -> tuple[Used, ...]:
    """Return the ways with their ratios to PyTorch, the first of each number of threads, and to Geant4."""
    usual: dict[int, dict[int, Timing]] = {}
    for one in ways:
        usual.setdefault(one.threads, one.ms)

    def filled(one: Used) -> Used:
        plain = usual[one.threads]
        ratios = [plain[size].median / time.median for size, time in one.ms.items() if size in plain]
        speed = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else 0.0
        beside = {size: geant4[size] / time.cpu for size, time in one.ms.items() if size in geant4 and time.cpu}
        return one.model_copy(update={"speed": speed, "beside_geant4": beside})

    return tuple(map(filled, ways))
