"""Rows and judgements made up for tests."""

from collections.abc import Mapping, Sequence
from typing import Any

from caloforge.validation.judgement import FORMAT, Floor, Generator, Judgement, Protocol, Reference
from caloforge.validation.report.verdict import verdict
from caloforge.validation.row import HEADLINE, Row


def row(generator: str, name: str, value: float = 0.0, **fields: Any) -> Row:
    """A headline row unless ``fields`` say otherwise."""
    given = {
        "kind": HEADLINE, "title": name, "group": "Metrics", "error": 0.1, "floor": 0.01, "floor_error": 0.01,
        "sigma": 0.0, "n": 100, "tested": True, "phrase": name,
    }  # fmt: skip
    return Row(generator=generator, name=name, value=value, **{**given, **fields})


def headline(generator: str, auc: float, fpd: float, separation: float, **fields: Any) -> list[Row]:
    """What the leaderboard needs of a generator."""
    values = {"auc": auc, "fpd": fpd, "mean_separation": separation, "mean_wasserstein": separation}
    return [row(generator, name, value, **fields) for name, value in values.items()]


def judgement(rows: Sequence[Row], speeds: Mapping[str, float] | None = None, **fields: Any) -> Judgement:
    """A judgement of these rows."""
    names = list(dict.fromkeys(one.generator for one in rows))
    verdicts = {name: verdict(name, [one for one in rows if one.generator == name], 100) for name in names}
    given = {
        "verdict": next(iter(verdicts.values())), "protocol": Protocol(name="quick", description=""), "n": 100,
        "reference": Reference(file="a.hdf5", showers=100), "floor": Floor(kind="second sample", file="b.hdf5"),
        "geometry": "siw_demo", "threshold_mev": 0.0, "source": None, "warnings": (), "failed": {}, "seconds": {},
        "provenance": {},
        "generators": {
            name: Generator(verdict=verdicts[name], milliseconds_per_shower=(speeds or {}).get(name), rocs={})
            for name in names
        },
    }  # fmt: skip
    return Judgement(schema=FORMAT, rows=tuple(rows), **{**given, **fields})
