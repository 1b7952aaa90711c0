"""What a comparison of families found: figures over several seeds at equal budgets, beside the floor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, stdev
from typing import Any

from caloforge.markdown import plain
from caloforge.tuning.ablation import Ablation, OverSeeds, ablation_markdown
from caloforge.tuning.objective import floor_name
from caloforge.tuning.result import Trial
from caloforge.tuning.trial import HEADLINES

MORE_IS_BETTER = ("prd_auc_features", "prd_auc_voxels")

OTHER = ("ms_per_shower", "train_parameters", "train_seconds")
"""What else is kept of a trial."""


def budget_text(minutes: float) -> str:
    """Return a budget as ``caloforge trial --budget`` takes it, in the unit that makes it short."""
    if minutes < 1:
        return f"{60 * minutes:g}s"
    return f"{minutes / 60:g}h" if minutes >= 60 and minutes % 60 == 0 else f"{minutes:g}m"


@dataclass(frozen=True)
class FamilyLine:
    """A family with one budget.

    Attributes:
        family: its name.
        budget: as text, e.g. ``20m``.
        minutes: the same as a number.
        figures: by name in :data:`HEADLINES` and :data:`OTHER`.
        floors: the same of :data:`HEADLINES` between two samples of Geant4.
        errors: statistical errors of single trainings.
        causes: why trials failed, one each.
    """

    family: str
    budget: str
    minutes: float
    figures: Mapping[str, OverSeeds]
    floors: Mapping[str, OverSeeds]
    errors: Mapping[str, OverSeeds]
    causes: tuple[str, ...]

    @property
    def trials(self) -> int:
        """How many gave figures."""
        return len(self.figures["fpd"].values)

    def error(self, name: str) -> float:
        """Return the error of the mean of a figure: that over seeds, or of a single training that of its showers."""
        found = self.figures[name]
        return found.error if len(found.values) > 1 else self.errors[name].mean if name in self.errors else math.nan

    def spread(self, name: str) -> float:
        """Return the standard deviation over seeds, NaN of fewer than two."""
        values = self.figures[name].values
        return stdev(values) if len(values) > 1 else math.nan


@dataclass(frozen=True)
class FamilyComparison:
    """All families with all budgets.

    Attributes:
        seeds: trainings of each that were asked for.
        lines: the best FPD first, those without figures last.
        ended: why it ended before its time; empty if it did not.
    """

    seeds: int
    lines: tuple[FamilyLine, ...]
    ended: str = ""

    @classmethod
    def of(
        cls, trials: Sequence[Trial], families: Sequence[str], budgets: Sequence[float], *, seeds: int, ended: str = ""
    ) -> FamilyComparison:
        """Gather the trials of each family with each budget, in the order of their seeds."""
        lines = []
        for family in families:
            for minutes in budgets:
                text = budget_text(minutes)
                own = [one for one in trials if (one.parameters["family"], one.parameters["budget"]) == (family, text)]
                own.sort(key=lambda one: int(str(one.parameters["seed"])))
                done = [one.metrics for one in own if one.state == "succeeded"]
                figures = {name: _over_seeds(done, name) for name in (*HEADLINES, *OTHER)}
                floors = {name: _over_seeds(done, floor_name(name)) for name in HEADLINES}
                errors = {name: _over_seeds(done, f"{name}_error") for name in HEADLINES}
                causes = tuple(one.cause for one in own if one.state == "failed")
                lines.append(FamilyLine(family, text, minutes, figures, floors, errors, causes))
        lines.sort(key=lambda line: line.figures["fpd"].mean if line.trials else math.inf)
        return cls(seeds, tuple(lines), ended)

    def floor(self, name: str) -> float:
        """Return the floor of a figure, the same for all; the median, NaN without any."""
        values = [value for line in self.lines for value in line.floors[name].values]
        return median(values) if values else math.nan

    def front(self, name: str) -> list[FamilyLine]:
        """Return the lines of which no other is both faster and better in a figure, the fastest first."""
        sign = -1 if name in MORE_IS_BETTER else 1
        found: list[FamilyLine] = []
        done = [line for line in self.lines if line.figures["ms_per_shower"].values and line.figures[name].values]
        for line in sorted(done, key=lambda one: (one.figures["ms_per_shower"].mean, sign * one.figures[name].mean)):
            if not found or sign * line.figures[name].mean < sign * found[-1].figures[name].mean:
                found.append(line)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "seeds": self.seeds,
            "ended": self.ended,
            "floor": {name: None if math.isnan(self.floor(name)) else self.floor(name) for name in HEADLINES},
            "families": [
                {
                    "family": line.family,
                    "budget": line.budget,
                    "minutes": line.minutes,
                    **{
                        kind: {name: list(one.values) for name, one in figures.items()}
                        for kind, figures in (
                            ("figures", line.figures), ("errors", line.errors), ("floors", line.floors),
                        )
                    },
                    "causes": list(line.causes),
                }
                for line in self.lines
            ],
        }  # fmt: skip


def _over_seeds(done: Sequence[Mapping[str, float]], name: str) -> OverSeeds:
    return OverSeeds(tuple(one[name] for one in done if name in one))


def comparison_rows(comparison: FamilyComparison) -> tuple[list[str], list[list[str]]]:
    """Return the heads and the cells of the table, Geant4 itself last."""
    heads = ["family", "budget", "trainings", *HEADLINES.values(), "ms per shower", "parameters"]
    rows = []
    for line in comparison.lines:
        count = str(line.trials) + (f" of {comparison.seeds}" if line.trials < comparison.seeds else "")
        cells = [_figure(line, name) for name in HEADLINES]
        ms, parameters = line.figures["ms_per_shower"], line.figures["train_parameters"]
        cells.append(f"{ms.mean:.3g}" if ms.values else "-")
        cells.append(f"{parameters.mean / 1e6:.2f} M" if parameters.values else "-")
        rows.append([line.family, line.budget, count, *cells])
    floor = [f"{value:.3g}" if math.isfinite(value := comparison.floor(name)) else "-" for name in HEADLINES]
    rows.append(["Geant4 itself", "", "", *floor, "", ""])
    return heads, rows


def comparison_notes(comparison: FamilyComparison) -> list[str]:
    """Return what a reader of the table must know, a sentence or two each."""
    over = (
        "Means over seeds ± their standard deviation. " if comparison.seeds > 1 else "One training each; ± is the error of its showers. "
    )  # fmt: skip
    about = (
        over
        + "The best FPD is first; of PRD areas more is better, of all else less. A budget is CPU time of one thread "
        "for all parts of a training, time on a GPU; ms per shower likewise, many drawn at once. Judged on the test "
        "split; Geant4 itself is the validation split against it."
    )
    failed = [
        f"{line.family}, {line.budget}: {len(line.causes)} failed: {line.causes[0]}"
        for line in comparison.lines
        if line.causes
    ]
    return [about, *failed, *([f"Ended early: {comparison.ended}"] if comparison.ended else [])]


def comparison_markdown(comparison: FamilyComparison, *, ablations: Mapping[str, Ablation] | None = None) -> str:
    """Return the comparison as a table with its notes, and under it each family's ablation."""
    heads, rows = comparison_rows(comparison)
    table = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    table += ["| " + " | ".join(map(plain, row)) + " |" for row in rows]
    parts = ["\n".join(table), *map(plain, comparison_notes(comparison))]
    for family, ablation in (ablations or {}).items():
        parts += [f"## {plain(family)}: settings", ablation_markdown(ablation).strip()]
    return "\n\n".join(parts) + "\n"


def _figure(line: FamilyLine, name: str) -> str:
    found = line.figures[name]
    if not found.values:
        return "-"
    error = line.spread(name) if len(found.values) > 1 else line.error(name)
    return f"{found.mean:.3g}" + ("" if math.isnan(error) else f" ± {error:.1g}")
