"""What a tuning found: its trials, the best of them, and both as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from caloforge.files import atomic_file, write_json
from caloforge.tuning.plots import write_plots
from caloforge.tuning.space import Value, nest

State = Literal["succeeded", "failed", "stopped early"]


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        name: of its folder or pod.
        state: how it ended.
        parameters: dotted path to value.
        metrics: name to value, the objective among them if it succeeded.
        seconds: how long it took, None if nobody knows.
    """

    name: str
    state: State
    parameters: Mapping[str, Value]
    metrics: Mapping[str, float]
    seconds: float | None


@dataclass(frozen=True)
class Tuning:
    """All trials of a tuning.

    Attributes:
        objective: name of the metric that was searched for.
        maximize: whether more of it is better.
        trials: in the order they started.
        fixed: parameters that all trials had, dotted path to value.
    """

    objective: str
    maximize: bool
    trials: Sequence[Trial]
    fixed: Mapping[str, Value] = field(default_factory=dict)

    @property
    def ranked(self) -> list[Trial]:
        """The trials that succeeded, the best first."""
        done = [trial for trial in self.trials if trial.state == "succeeded"]
        return sorted(done, key=lambda trial: trial.metrics[self.objective], reverse=self.maximize)

    def overrides(self) -> dict[str, Any]:
        """Return the best parameters, and those that were not searched, as overrides of a preset."""
        return nest({**self.fixed, **self.ranked[0].parameters})


def write_tuning(tuning: Tuning, output: Path) -> None:
    """Write ``overrides.json``, ``trials.json``, ``tuning.md``, ``history.png`` and ``parallel_coordinates.png``.

    Args:
        tuning: at least one of its trials succeeded.
        output: folder, made if it is not there.
    """
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "overrides.json", tuning.overrides())
    write_json(output / "trials.json", [asdict(trial) for trial in tuning.trials])
    with atomic_file(output / "tuning.md") as path:
        path.write_text(tuning_markdown(tuning))
    write_plots(tuning, output)


def tuning_markdown(tuning: Tuning) -> str:
    """Return the trials as a Markdown table, the best first, then those that gave no figure.

    It has the objective and the parameters and so fits a side panel; ``trials.json`` has all.
    """
    others = [trial for trial in tuning.trials if trial.state != "succeeded"]
    paths = list(dict.fromkeys(path for trial in tuning.trials for path in trial.parameters))
    header = ["trial", tuning.objective, *paths]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for trial in (*tuning.ranked, *others):
        figure = _number(trial.metrics.get(tuning.objective)) if trial.state == "succeeded" else trial.state
        values = [_number(trial.parameters.get(path)) for path in paths]
        lines.append("| " + " | ".join([trial.name, figure, *values]) + " |")
    return "\n".join(lines) + "\n"


def _number(value: Value | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
