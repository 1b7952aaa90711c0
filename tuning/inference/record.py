"""What was measured of each candidate, and which was chosen."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from caloforge.config import Config
from caloforge.models.engines.variant import Variant

SIZES = (1, 10, 100, 1000)
"""Showers that are asked for at once."""


class OptimiseSettings(Config):
    """How variants are measured and chosen.

    Attributes:
        sizes: numbers of showers that are asked for at once; the choice weighs them equally.
        tolerance: how much worse than in float32 a figure of the fidelity may be, in its errors.
        compiled: whether to try PyTorch's compiler too, which takes a minute or more.
    """

    sizes: tuple[Annotated[int, Field(ge=1, le=100_000)], ...] = Field(default=SIZES, min_length=1)
    tolerance: float = Field(default=2.0, ge=0)
    compiled: bool = False


class Timing(Config):
    """Milliseconds per shower at one batch size, over the rounds of the measurement.

    Attributes:
        median: of the clock.
        least: likewise.
        most: likewise.
        cpu: time of all cores together, the median; what else runs on the machine hardly changes it.
    """

    median: float
    least: float
    most: float
    cpu: float = 0


class Value(Config):
    """A figure with its statistical error, one standard deviation."""

    value: float
    error: float


class Fidelity(Config):
    """How far a sample of showers is from Geant4's, and from those of the generator as it was trained.

    Attributes:
        fpd: Fréchet physics distance to Geant4.
        auc: of a classifier that tells it from Geant4.
        auc_plain: of a classifier that tells it from other showers of the generator in PyTorch and float32.
    """

    fpd: Value
    auc: Value
    auc_plain: Value


class Measured(Config):
    """A candidate.

    Attributes:
        variant: how it is run.
        ms: milliseconds per shower by the number of showers asked for at once.
        load_seconds: from the bundle to where it can draw.
        first_seconds: of its first shower.
        peak_mb: most memory of its process, libraries included.
        graph_mb: size of its graph or weights on disk.
        moved: share of showers that are others when they are drawn in other batches.
        fidelity: how good its showers are.
        speed: how many times faster than PyTorch in float32, the geometric mean over the sizes.
        refused: why it may not be chosen; empty if it may.
    """

    variant: Variant
    ms: dict[int, Timing] = Field(default_factory=dict)
    load_seconds: float = 0
    first_seconds: float = 0
    peak_mb: float = 0
    graph_mb: float = 0
    moved: float = 0
    fidelity: Fidelity | None = None
    speed: float = 0
    refused: str = ""

    def times(self) -> dict[str, float]:
        """Return the milliseconds per shower under one flat name each."""
        return {f"ms_per_shower_{size}": time.median for size, time in self.ms.items()}


class Optimisation(Config):
    """A whole measurement.

    Attributes:
        family: of the generator.
        showers: that the fidelity was judged by, of each kind.
        sizes: numbers of showers that were asked for at once.
        rounds: how often each was timed.
        tolerance: how much worse a figure may be, in its errors.
        floor: the fidelity between two Geant4 samples, and of PyTorch beside PyTorch.
        candidates: PyTorch in float32 first.
        chosen: name of the variant.
        why: the reason, in words.
        machine: processor and cores.
        provenance: of the measurement, with the versions.
    """

    family: str
    showers: int
    sizes: tuple[int, ...]
    rounds: int
    tolerance: float
    floor: Fidelity | None
    candidates: tuple[Measured, ...] = Field(min_length=1)
    chosen: str
    why: str
    machine: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def winner(self) -> Measured:
        """The chosen candidate."""
        return next(one for one in self.candidates if one.variant.name == self.chosen)
