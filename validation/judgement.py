"""A judgement of generators: the content of ``metrics.json``, and the only reader and writer of that file."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from caloforge.config import Config
from caloforge.errors import InputError
from caloforge.files import read_json, write_json
from caloforge.source import Source
from caloforge.validation.row import HEADLINE, IN_BINS, PHYSICS, Number, Row

FORMAT: Literal[2] = 2
"""``schema`` of the file; it rises when a key is renamed or changes its meaning."""

SCHEMA_FILE = files("caloforge.validation") / "schemas" / "metrics.schema.json"
"""The JSON Schema of the file, as the types below make it."""


class Protocol(Config):
    """How it was judged.

    Attributes:
        name: in :data:`caloforge.validation.registries.PROTOCOLS`.
        description: in words.
    """

    name: str
    description: str


class Reference(Config):
    """The Geant4 showers.

    Attributes:
        file: name of their file.
        showers: how many it has.
        milliseconds_per_shower: CPU time of the full simulation, the mean of the showers that were compared; None if the
            file does not say it.
    """

    file: str
    showers: int
    milliseconds_per_shower: Number | None = None


class Floor(Config):
    """Where the floors come from.

    Attributes:
        kind: a second sample, or halves of the reference.
        file: name of the file.
    """

    kind: Literal["second sample", "halves of the reference"]
    file: str


class Verdict(Config):
    """Whether the showers of a generator can be told from Geant4's, and by what.

    Attributes:
        generator: its name.
        indistinguishable: whether they cannot.
        sigma: the largest distance in standard deviations, corrected for the number of tests.
        worst: what differs most.
        tests: their number.
        distinguishable_by: all that differ, the worst first.
        sentence: all that in words.
        power: how large a difference would have been seen, in words.
        rule: by which it was decided; of the verdict about the best only.
    """

    generator: str
    indistinguishable: bool
    sigma: Number
    worst: str
    tests: int
    distinguishable_by: tuple[str, ...]
    sentence: str
    power: str = ""
    rule: str = ""


class RocCurve(Config):
    """A receiver operating characteristic; see :class:`caloforge.validation.metrics.result.Roc`.

    Attributes:
        fpr: fraction of generated showers taken for Geant4.
        tpr: fraction of Geant4 showers taken for Geant4.
        thresholds: scores from which on a shower is taken for Geant4.
    """

    fpr: tuple[Number, ...]
    tpr: tuple[Number, ...]
    thresholds: tuple[Number, ...]


class Generator(Config):
    """What is said of a generator beside its rows.

    Attributes:
        verdict: about it.
        milliseconds_per_shower: None if it is not known.
        variant: what ran it (library, precision, threads), None if its file does not say it.
        rocs: ROC curve by name of the classifier (of the first training).
    """

    verdict: Verdict
    milliseconds_per_shower: Number | None
    variant: str | None = None
    rocs: dict[str, RocCurve]


def ratio(slow: float | None, fast: float | None) -> float | None:
    """Return how many times longer one time is than another; None if one is not known, or 0."""
    return slow / fast if slow and fast else None


class Judgement(Config):
    """The content of ``metrics.json``.

    Attributes:
        format: number of the format; ``schema`` in the file.
        verdict: about the best generator.
        protocol: how it was judged.
        n: showers of each sample that were compared.
        reference: the Geant4 showers.
        floor: where the floors come from.
        geometry: name of the mesh.
        threshold_mev: voxels below it count as empty.
        source: where the Geant4 showers came from, None if it is not known.
        warnings: what may make figures wrong.
        notes: what generators have in common, which their figures do not show.
        failed: generators that there is nothing of to judge, and why.
        generators: by name.
        rows: every figure of every generator.
        seconds: wall-clock time of the parts of the work.
        provenance: versions, git revision, seed, checksums.
    """

    format: Literal[2] = Field(alias="schema")
    verdict: Verdict
    protocol: Protocol
    n: int
    reference: Reference
    floor: Floor
    geometry: str
    threshold_mev: Number
    source: Source | None
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    failed: dict[str, str]
    generators: dict[str, Generator]
    rows: tuple[Row, ...]
    seconds: dict[str, Number]
    provenance: dict[str, Any]

    def speed_up(self, generator: str) -> float | None:
        """Return how many times faster than the full simulation a generator is; None if one of the times is not known."""
        return ratio(self.reference.milliseconds_per_shower, self.generators[generator].milliseconds_per_shower)

    def row(self, generator: str, kind: str, name: str) -> Row:
        """Return one row.

        Raises:
            InputError: there is none.
        """
        for row in self.rows:
            if (row.generator, row.kind, row.name) == (generator, kind, name):
                return row
        raise InputError(f"the metrics have no {kind} figure {name!r} of {generator}")

    def of(self, generator: str) -> list[Row]:
        """Return the rows of a generator."""
        return [row for row in self.rows if row.generator == generator]

    def table(self, kind: str) -> dict[str, dict[str, Row]]:
        """Return the listed rows of a kind: name of the figure to generator to row."""
        found: dict[str, dict[str, Row]] = {}
        for row in self.rows:
            if row.kind == kind and row.listed:
                found.setdefault(row.name, {})[row.generator] = row
        return found

    @property
    def distribution_metrics(self) -> list[str]:
        """Kinds of the rows that compare the distribution of an observable."""
        return [
            kind for kind in dict.fromkeys(row.kind for row in self.rows) if kind not in (HEADLINE, PHYSICS, IN_BINS)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the content as JSON has it; what a row says nothing about is left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def write(self, path: Path) -> None:
        """Write ``metrics.json``."""
        write_json(path, self.as_dict())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a ``metrics.json``.

        Raises:
            InputError: it is none, or one of another version of this package.
        """
        content = read_json(path)
        found = content.get("schema") if isinstance(content, dict) else None
        if found != FORMAT:
            text = "is no metrics.json" if found is None else f"has the schema {found}, but this version reads {FORMAT}"
            raise InputError(f"{path}: {text}; judge the showers again with caloforge validate")
        return cls.parse(content, where=str(path))


def json_schema() -> str:
    """Return the JSON Schema of ``metrics.json`` that the types make, as the package ships it."""
    return json.dumps(Judgement.model_json_schema(), indent=2) + "\n"
