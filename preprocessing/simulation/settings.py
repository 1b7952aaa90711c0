"""What a pipeline simulates in place of data."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from caloforge.config import Config
from caloforge.errors import InputError
from caloforge.files import sha256
from caloforge.preprocessing.simulation.beam import Beam
from caloforge.preprocessing.simulation.detector import Detector, load_detector
from caloforge.preprocessing.simulation.simulate import Simulation, simulate
from caloforge.showers import open_showers
from caloforge.source import Source

FILE = "simulated.hdf5"


class SimulateSettings(Config):
    """What is simulated, but for the seed.

    Attributes:
        detector: the calorimeter: by name, as a file that describes it, or described here.
        beam: what is shot at it, e.g. ``{particles: [e-, gamma], energy: [1000, 100000]}``.
        n: number of showers.
        physics: physics list; empty: the one that the particles need.
        processes: processes that work side by side, one for each core.
    """

    detector: str | dict[str, Any]
    beam: Beam
    n: int = Field(ge=1, le=10**9)
    physics: str = ""
    processes: int = Field(default=1, ge=1, le=4096)

    @field_validator("detector", mode="after")
    @classmethod
    def _described(cls, value: str | dict[str, Any]) -> str | dict[str, Any]:
        """Take in what a file says: a step on a cluster has no such file."""
        return load_detector(value).as_dict() if isinstance(value, str) and Path(value).suffix else value

    @model_validator(mode="after")
    def _can_be_simulated(self) -> Self:
        try:
            self.simulation(0).check()
        except InputError as error:
            raise PydanticCustomError("simulate", "{text}", {"text": str(error)}) from None
        return self

    def simulation(self, seed: int) -> Simulation:
        """Return what is simulated with a seed."""
        given = self.detector
        detector = load_detector(given) if isinstance(given, str) else Detector.parse(given, where="detector")
        values = {"detector": detector, "beam": self.beam, "physics": self.physics, "seed": seed, "n": self.n}
        return Simulation.parse(values, where="simulate")

    @property
    def name(self) -> str:
        """Name of the detector, empty if it is described."""
        return self.detector if isinstance(self.detector, str) else ""

    def run(self, output: Path, *, seed: int, parts: Path | None = None) -> tuple[dict[str, float], Source]:
        """Simulate; see :func:`caloforge.preprocessing.simulation.simulate.simulate`.

        Args:
            output: the file to write.
            seed: of the showers.
            parts: folder for what is finished; None: beside the output.

        Returns:
            Figures, and where the showers came from.
        """
        simulation = self.simulation(seed)
        if parts is not None:
            digest = hashlib.sha256(simulation.model_dump_json().encode()).hexdigest()[:12]
            parts = parts / f"simulation-{digest}"
        figures = simulate(simulation, output, processes=self.processes, name=self.name, parts=parts)
        return figures, self._source(output)

    def run_once(self, folder: Path, *, seed: int) -> Path:
        """Simulate into a folder unless the file is there already; return it."""
        path, wanted = folder / FILE, self.simulation(seed).model_dump_json()
        if path.is_file() and open_showers(path).attributes.get("simulation") == wanted:
            return path
        self.run(path, seed=seed)
        return path

    def _source(self, path: Path) -> Source:
        said = open_showers(path).attributes
        beam = f"{said['particle']} of {'-'.join(f'{one / 1e3:g}' for one in dict.fromkeys(self.beam.energy))} GeV"
        address = f"{said['source']}: {self.name or 'a detector'}, {beam}"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Source(address, path.stat().st_size, sha256(path), now)


def as_json(settings: SimulateSettings) -> str:
    """Return the settings as JSON with the keys in order: what differs in nothing is the same for a cache."""
    return json.dumps(settings.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
