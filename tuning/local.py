"""Run an Experiment here: Optuna proposes, subprocesses try, SQLite remembers."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from caloforge.child import Child
from caloforge.errors import InputError
from caloforge.files import read_json, write_json
from caloforge.outputs import claim_folder
from caloforge.result_kinds import TRIAL
from caloforge.tuning.experiment import parameter_path
from caloforge.tuning.printed import extract, printed_values
from caloforge.tuning.result import Trial, Tuning
from caloforge.tuning.rules import check_experiment
from caloforge.tuning.space import format_value
from caloforge.tuning.study import distributions, grid_points, open_storage, open_study, sampler

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1
_WRONG_INPUT, _ERROR = 2, "Error: "
"""How commands end that refuse what they are given."""

_MAY_DIFFER = ("maxTrialCount", "parallelTrialCount", "maxFailedTrialCount")
"""What a tuning that goes on may have otherwise than before, as on a cluster."""


def run_experiment(experiment: dict[str, Any], output: Path, *, timeout: float | None = None) -> Tuning:
    """Run the trials of an Experiment as subprocesses; a stopped run goes on when called again.

    Trials that failed in an earlier run do not count: their number is tried anew.

    Args:
        experiment: the Experiment that Katib would be given.
        output: folder for ``experiment.json``, ``study.db`` and a folder of each trial's log.
        timeout: seconds after which the trials that run are stopped, to go on when called again, and
            those that are done must do.

    Returns:
        All trials that are over, and why the search ended early if it did: so many failed as end it, the time was up,
        or trials that have nothing but their input in common refused that.

    Raises:
        InputError: Katib would refuse the experiment, it cannot be run here, or ``output`` holds
            another one.
    """
    check_experiment(experiment)
    _keep(experiment, output / "experiment.json")
    run = _Run(experiment, output)
    try:
        run.work(None if timeout is None else time.monotonic() + timeout)
    finally:
        run.close()
    return run.result()


@dataclass
class _Running:
    """A trial that runs, and how many values of the objective it had printed when last looked at."""

    trial: optuna.Trial
    process: Child
    reported: int = 0


class _Run:
    """The state of one call of :func:`run_experiment`."""

    def __init__(self, experiment: dict[str, Any], output: Path) -> None:
        self.name: str = experiment["metadata"]["name"]
        self.output = output
        self.spec: dict[str, Any] = experiment["spec"]
        objective = self.spec["objective"]
        self.objective: str = objective["objectiveMetricName"]
        self.metrics = (self.objective, *objective.get("additionalMetricNames", []))
        self.maximize: bool = objective["type"] == "maximize"
        given = {strategy["name"]: strategy["value"] for strategy in objective.get("metricStrategies", [])}
        usual = "max" if self.maximize else "min"
        self.strategies = {name: given.get(name, usual) for name in self.metrics}
        self.ranges = distributions(self.spec["parameters"])
        self.container = _primary_container(self.spec["trialTemplate"])
        self.wanted: int = self.spec["maxTrialCount"]
        grid = self._grid()
        self.storage = open_storage(output / "study.db")
        self.study = open_study(
            self.storage,
            self.name,
            maximize=self.maximize,
            pruner=_pruner(self.spec.get("earlyStopping")),
        )
        self.running: list[_Running] = []
        self.failed = 0
        self.goal_reached = False
        self.ended = ""
        self.wrong_input = False
        if grid is not None:
            self._queue(grid)

    def work(self, deadline: float | None) -> None:
        """Start trials and take in their results until there are enough, or the time is up."""
        if before := self._done():
            logger.info("%s: %d trials are there from an earlier run", self.name, before)
        while True:
            for item in list(self.running):
                self._look(item)
            while not (self.goal_reached or self.ended) and len(self.running) < self._free():
                self._start()
            if not self.running or self.ended:
                return
            if deadline is not None and time.monotonic() > deadline:
                self.ended = f"the time is up after {self._done()} of {self.wanted} trials"
                self.ended += f", see {self.running[0].process.log}"
                logger.warning("%s: %s", self.name, self.ended)
                return
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Stop what runs, and let go of the data base."""
        for item in self.running:
            item.process.terminate()
        for item in self.running:
            item.process.wait()
        self.storage.remove_session()
        self.storage.engine.dispose()

    def result(self) -> Tuning:
        """Return the trials that are over."""
        states = {TrialState.COMPLETE: "succeeded", TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed"}
        trials = [
            Trial(
                name=frozen.user_attrs["name"],
                state=states[frozen.state],  # type: ignore[arg-type]
                parameters={parameter_path(name): value for name, value in frozen.params.items()},
                metrics=frozen.user_attrs.get("metrics", {}),
                seconds=frozen.user_attrs["seconds"],
                cause=frozen.user_attrs.get("cause", ""),
            )
            for frozen in self.trials
            if "seconds" in frozen.user_attrs
        ]
        return Tuning(self.objective, self.maximize, trials, ended=self.ended, wrong_input=self.wrong_input)

    def _done(self) -> int:
        return sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in self.trials) + self.failed

    def _free(self) -> int:
        """Return how many trials may run now."""
        parallel: int = self.spec.get("parallelTrialCount", 3)
        return min(parallel, self.wanted - self._done())

    def _start(self) -> None:
        number = len({trial.user_attrs["name"] for trial in self.trials if "name" in trial.user_attrs})
        self.study.sampler = sampler(self.spec["algorithm"], number=number)
        trial = self.study.ask(self.ranges)
        name = trial.user_attrs.get("name", f"{self.name}-{number:04d}")
        trial.set_user_attr("name", name)
        command = _substitute(
            [*self.container["command"], *self.container.get("args", [])],
            self.spec["trialTemplate"]["trialParameters"],
            {key: format_value(value) for key, value in trial.params.items()} | {"${trialSpec.Name}": name},
        )
        if command[0] == "python":
            command[0] = sys.executable
        threads = max(1, (os.cpu_count() or 1) // self.spec.get("parallelTrialCount", 3))
        environment = {
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
            **{
                entry["name"]: entry.get("value", "")
                for entry in self.container.get("env", [])
                if "valueFrom" not in entry
            },
            "KATIB_TRIAL_NAME": name,
        }
        claim_folder(self.output / "trials" / name, TRIAL)  # its log is there before it begins
        process = Child(command, what=name, environment=environment, log=self.output / "trials" / name / "log")
        self.running.append(_Running(trial, process))

    def _look(self, item: _Running) -> None:
        """Take in what a trial has printed; end it if it is hopeless or over."""
        code = item.process.poll()  # before reading: what is read then is all of it
        printed = printed_values(item.process.lines(), self.metrics)
        values = printed[self.objective]
        for step in range(item.reported, len(values)):
            item.trial.report(values[step], step)
        fresh, item.reported = len(values) > item.reported, len(values)
        if code is None:
            if fresh and item.trial.should_prune():
                item.process.terminate()
                item.process.wait()
                self._finish(item, printed, TrialState.PRUNED)
        elif code == 0 and values:
            self._finish(item, printed, TrialState.COMPLETE)
        else:
            why = f"ended with code {code}" if code else f"printed no {self.objective}=NUMBER"
            item.trial.set_user_attr("cause", why)
            item.trial.set_user_attr("refusal", _refusal(item.process))
            self._finish(item, printed, TrialState.FAIL)
            self._count_failure(item, why)

    def _finish(self, item: _Running, printed: Mapping[str, list[float]], state: TrialState) -> None:
        self.running.remove(item)
        metrics = {name: extract(values, self.strategies[name]) for name, values in printed.items() if values}
        item.trial.set_user_attr("metrics", metrics)
        item.trial.set_user_attr("seconds", item.process.seconds)
        value = metrics[self.objective] if state == TrialState.COMPLETE else None
        self.study.tell(item.trial, value, state=state)
        if value is None:
            return
        goal = self.spec["objective"].get("goal")
        self.goal_reached |= goal is not None and (value >= goal if self.maximize else value <= goal)
        logger.info(
            "%s: trial %d/%d: %s=%.4g, best %.4g", self.name, self._done(), self.wanted, self.objective, value,
            self.study.best_value,
        )  # fmt: skip

    def _count_failure(self, item: _Running, why: str) -> None:
        self.failed += 1
        name = item.trial.user_attrs["name"]
        logger.warning("%s: %s; its log %s ends:\n%s", name, why, item.process.log, item.process.tail())
        if (refusal := item.trial.user_attrs["refusal"]) and self._is_of_all(refusal):
            self.ended, self.wrong_input = refusal, True
            return
        bound = self.spec.get("maxFailedTrialCount")
        if (bound is not None and self.failed >= bound) or self.failed == self.wanted:
            self.ended = f"{self.failed} trials failed; the last one, {name}, {why}: see {item.process.log}"

    def _is_of_all(self, refusal: str) -> bool:
        """Return whether a refusal is not of the parameters: none succeeded, and those that said it share no value."""
        if any(trial.state == TrialState.COMPLETE for trial in self.trials):
            return False
        refused = [set(trial.params.items()) for trial in self.trials if trial.user_attrs.get("refusal") == refusal]
        return not set.intersection(*refused)

    def _grid(self) -> list[dict[str, Any]] | None:
        if self.spec["algorithm"]["algorithmName"] != "grid":
            return None
        settings = {entry["name"]: entry["value"] for entry in self.spec["algorithm"].get("algorithmSettings", [])}
        return grid_points(self.ranges, seed=int(settings.get("random_state", 0)))

    def _queue(self, points: list[dict[str, Any]]) -> None:
        """Queue as many points as are wanted and are not there yet."""
        self.wanted = min(self.wanted, len(points))
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.WAITING)
        there = [_fixed(trial) for trial in self.trials if trial.state in states]
        for point in points[: self.wanted]:
            if point not in there:
                self.study.enqueue_trial(point)

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)


def _refusal(process: Child) -> str:
    """Return the line by which a trial refused what it was given; empty if it failed otherwise."""
    said = [line for line in process.lines() if line.startswith(_ERROR)] if process.poll() == _WRONG_INPUT else []
    return said[-1].removeprefix(_ERROR) if said else ""


def _fixed(trial: FrozenTrial) -> dict[str, Any]:
    """Return the parameters of a trial, or those it will have when its turn comes."""
    queued: dict[str, Any] = trial.system_attrs.get("fixed_params", {})
    return trial.params or queued


def _keep(experiment: dict[str, Any], path: Path) -> None:
    """Write the experiment, or see that the one that is there is the same."""
    if not path.exists():
        write_json(path, experiment)
        return
    there = read_json(path)
    ours, theirs = (
        {**e, "spec": {key: value for key, value in e["spec"].items() if key not in _MAY_DIFFER}}
        for e in (experiment, there)
    )
    if ours != theirs:
        raise InputError(
            f"{path.parent}: holds the trials of another search; choose another output folder, or give the same options"
        )
    write_json(path, experiment)


def _primary_container(template: dict[str, Any]) -> dict[str, Any]:
    name = template["primaryContainerName"]
    try:
        containers = template["trialSpec"]["spec"]["template"]["spec"]["containers"]
        found: dict[str, Any] = next(container for container in containers if container["name"] == name)
        found["command"]
    except (KeyError, StopIteration):
        raise InputError(
            f"the trial is not a Job with a container {name!r} and a command; only Katib can run it"
        ) from None
    return found


def _substitute(command: list[str], parameters: list[dict[str, str]], values: Mapping[str, str]) -> list[str]:
    """Put values in the place of ``${trialParameters.NAME}``."""
    text = json.dumps(command)
    for parameter in parameters:
        value = json.dumps(values[parameter["reference"]])[1:-1]
        text = text.replace(f"${{trialParameters.{parameter['name']}}}", value)
    filled: list[str] = json.loads(text)
    return filled


def _pruner(stopping: dict[str, Any] | None) -> optuna.pruners.BasePruner:
    if stopping is None:
        return optuna.pruners.NopPruner()
    settings = {setting["name"]: int(setting["value"]) for setting in stopping.get("algorithmSettings", [])}
    return optuna.pruners.MedianPruner(
        n_startup_trials=settings.get("min_trials_required", 3), n_warmup_steps=settings.get("start_step", 4)
    )
