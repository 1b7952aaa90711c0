"""Settings of a tuning within the pipeline."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from caloforge.config import Config
from caloforge.place import TuneBackend


class TuneSettings(Config):
    """How the pipeline searches for the parameters of each family before it trains it.

    Attributes:
        trials: number of trials for each family; 0: no search.
        backend: where trials run.
        parallel: trials at a time.
        algorithm: name of the search algorithm.
        objective: name of the figure to minimise.
        max_minutes: bound of each trial's training, 0 for none.
        timeout_minutes: bound of each family's search, 0 for none; the best until then is taken.
        early_stopping: end trials that are worse than the median of others at the same point.
        spaces: search spaces by family, where they are not to be the families' own.
        required: stop where a search finds nothing; without it the family is trained with its own parameters.
    """

    trials: int = Field(default=0, ge=0, le=100_000)
    backend: TuneBackend = "auto"
    parallel: int = Field(default=1, ge=1, le=10_000)
    algorithm: str = "tpe"
    objective: str = "fpd"
    max_minutes: float = Field(default=0.0, ge=0)
    timeout_minutes: float = Field(default=0.0, ge=0)
    early_stopping: bool = False
    spaces: dict[str, dict[str, Any]] = Field(default_factory=dict)
    required: bool = False

    def options(self, family: str) -> dict[str, Any]:
        """Return what :func:`caloforge.tuning.tune.tune` takes of them, but for trials and backend."""
        return {
            "parallel": self.parallel,
            "algorithm": self.algorithm,
            "objective": self.objective,
            "max_minutes": self.max_minutes or None,
            "timeout_minutes": self.timeout_minutes or None,
            "early_stopping": self.early_stopping,
            "space": self.spaces.get(family),
            "required": self.required,
        }
