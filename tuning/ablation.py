"""What an ablation found: each choice's figures over several seeds, beside the floor and the family's own settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from caloforge.markdown import plain
from caloforge.tuning.choices import Choices
from caloforge.tuning.objective import floor_name, objective_names
from caloforge.tuning.result import Trial

OWN = "own settings"


@dataclass(frozen=True)
class OverSeeds:
    """A figure of trainings that differ in their seed alone.

    Attributes:
        values: one of each training.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean, NaN without any."""
        return mean(self.values) if self.values else math.nan

    @property
    def error(self) -> float:
        """Standard error of the mean, NaN of fewer than two."""
        return stdev(self.values) / math.sqrt(len(self.values)) if len(self.values) > 1 else math.nan


@dataclass(frozen=True)
class Line:
    """One choice.

    Attributes:
        label: what is changed; :data:`OWN` for nothing.
        path: of the setting, empty for none.
        figures: by name of the objective.
        floors: the same between two samples of Geant4.
        causes: why trials failed, one each.
    """

    label: str
    path: str
    figures: Mapping[str, OverSeeds]
    floors: Mapping[str, OverSeeds]
    causes: tuple[str, ...]

    @property
    def trials(self) -> int:
        """How many gave figures."""
        return len(next(iter(self.figures.values())).values)


@dataclass(frozen=True)
class Ablation:
    """All choices, the own settings first.

    Attributes:
        family: name of the family.
        seeds: trainings of each choice that were asked for.
        lines: the choices.
        own_values: path of each setting that is changed to its own value as text.
        ended: why it ended before its time; empty if it did not.
    """

    family: str
    seeds: int
    lines: tuple[Line, ...]
    own_values: Mapping[str, str]
    ended: str = ""

    @classmethod
    def of(cls, trials: Sequence[Trial], choices: Choices, *, family: str, seeds: int, ended: str = "") -> Ablation:
        """Gather the trials of each choice, in the order of their seeds."""
        names = objective_names()
        lines = []
        for label in choices.labels:
            own = [trial for trial in trials if trial.parameters["choice"] == label]
            own.sort(key=lambda trial: int(str(trial.parameters["seed"])))
            done = [trial.metrics for trial in own if trial.state == "succeeded"]
            figures, floors = (
                {name: OverSeeds(tuple(one[called(name)] for one in done if called(name) in one)) for name in names}
                for called in (str, floor_name)
            )
            causes = tuple(trial.cause for trial in own if trial.state == "failed")
            first = label == choices.own.label
            lines.append(
                Line(OWN if first else label, "" if first else label.partition("=")[0], figures, floors, causes)
            )
        return cls(family, seeds, tuple(lines), choices.own_values, ended)

    def difference(self, line: Line, name: str) -> tuple[float, float]:
        """Return by how much a figure is above that of the own settings, and the error of that over seeds."""
        own, other = self.lines[0].figures[name], line.figures[name]
        return other.mean - own.mean, math.hypot(other.error, own.error)

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "family": self.family,
            "seeds": self.seeds,
            "own_values": dict(self.own_values),
            "ended": self.ended,
            "choices": [
                {
                    "label": line.label,
                    **{
                        kind: {name: list(figure.values) for name, figure in figures.items()}
                        for kind, figures in (("figures", line.figures), ("floors", line.floors))
                    },
                    "causes": list(line.causes),
                }
                for line in self.lines
            ],
        }


def ablation_markdown(ablation: Ablation) -> str:
    """Return a table: each choice's figures with errors over seeds and floors, and its difference from the own settings."""
    names = objective_names()
    heads = ["choice", "trainings", *names, *(f"{name} above own" for name in names)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for line in ablation.lines:
        count = str(line.trials) + (f" of {ablation.seeds}" if line.trials < ablation.seeds else "")
        cells = [line.label, count, *(_figure(line.figures[name], line.floors[name]) for name in names)]
        is_own = line is ablation.lines[0]
        cells += ["" if is_own else _with_error(*ablation.difference(line, name), sign="+") for name in names]
        lines.append("| " + " | ".join(map(plain, cells)) + " |")
    own = ", ".join(f"{path}={value}" for path, value in ablation.own_values.items())
    about = (
        f"Own settings: {own}. Means over seeds ± their standard error, in brackets Geant4 against itself with as many "
        f"showers; smaller is better. An error from {ablation.seeds} seeds is itself uncertain by "
        f"{100 / math.sqrt(2 * (ablation.seeds - 1)):.0f} %: a difference below two or three errors says nothing."
    )
    notes = [
        about,
        *(f"{line.label}: {len(line.causes)} failed: {line.causes[0]}" for line in ablation.lines if line.causes),
        *([f"Ended early: {ablation.ended}"] if ablation.ended else []),
    ]
    return "\n\n".join(["\n".join(lines), *map(plain, notes)]) + "\n"


def _figure(figure: OverSeeds, floor: OverSeeds) -> str:
    if not figure.values:
        return "-"
    return _with_error(figure.mean, figure.error) + (f" ({floor.mean:.3g})" if floor.values else "")


def _with_error(value: float, error: float, *, sign: str = "") -> str:
    if math.isnan(value):
        return ""
    return f"{value:{sign}.3g}" + ("" if math.isnan(error) else f" ± {error:.1g}")
