"""What a tuning found: its trials and the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from caloforge.markdown import plain
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
        cause: why it failed, empty where it did not or nobody knows.
    """

    name: str
    state: State
    parameters: Mapping[str, Value]
    metrics: Mapping[str, float]
    seconds: float | None
    cause: str = ""


@dataclass(frozen=True)
class Tuning:
    """All trials of a tuning.

    Attributes:
        objective: name of the metric that was searched for.
        maximize: whether more of it is better.
        trials: in the order they started.
        fixed: parameters that all trials had, dotted path to value.
        ended: why the search ended before its time; empty if it did not.
        given_again: trials that were given again because others were lost.
        wrong_input: whether it ended because what all trials are given is wrong, and ``ended`` says how.
    """

    objective: str
    maximize: bool
    trials: Sequence[Trial]
    fixed: Mapping[str, Value] = field(default_factory=dict)
    ended: str = ""
    given_again: int = 0
    wrong_input: bool = False

    @property
    def ranked(self) -> list[Trial]:
        """The trials that succeeded, the best first."""
        done = [trial for trial in self.trials if trial.state == "succeeded"]
        return sorted(done, key=lambda trial: trial.metrics[self.objective], reverse=self.maximize)

    @property
    def best(self) -> Trial | None:
        """The best trial; None if the search found nothing."""
        return next(iter(self.ranked), None)

    def overrides(self) -> dict[str, Any]:
        """Return the best parameters, and those that were not searched, as overrides of a preset.

        Where nothing was found only the latter: the family has its own parameters then.
        """
        return nest({**self.fixed, **(self.best.parameters if self.best else {})})

    def summary(self) -> str:
        """Return in a sentence what was found, and what was lost on the way."""
        best = self.best
        if best is None:
            text = f"no trial gave {self.objective}: the family keeps its own parameters"
        else:
            text = f"best is {best.name} with {self.objective}={best.metrics[self.objective]:.4g}"
        text += f"; {self.given_again} lost trials were given again" if self.given_again else ""
        return text + (f"; ended early: {self.ended}" if self.ended else "")


def tuning_markdown(tuning: Tuning) -> str:
    """Return what was found as a sentence, and the trials as a table, the best first, then those without a figure.

    It has the objective and the parameters and so fits a side panel; ``trials.json`` has all.
    """
    sentence = plain(tuning.summary())
    lines = [sentence[0].upper() + sentence[1:] + ".", ""]
    if not tuning.trials:
        return lines[0] + "\n"
    others = [trial for trial in tuning.trials if trial.state != "succeeded"]
    paths = list(dict.fromkeys(path for trial in tuning.trials for path in trial.parameters))
    header = ["trial", tuning.objective, *paths]
    lines += ["| " + " | ".join(map(plain, header)) + " |", "|" + "---|" * len(header)]
    for trial in (*tuning.ranked, *others):
        figure = f"{trial.state}: {trial.cause}" if trial.cause else str(trial.state)
        if trial.state == "succeeded":
            figure = _number(trial.metrics[tuning.objective])
        values = [_number(trial.parameters.get(path)) for path in paths]
        lines.append("| " + " | ".join(map(plain, [trial.name, figure, *values])) + " |")
    return "\n".join(lines) + "\n"


def _number(value: Value | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
