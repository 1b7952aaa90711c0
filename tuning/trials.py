"""The trials of a search: the command line that each is, and the backend that runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from caloforge.files import write_json
from caloforge.pods import digest_of
from caloforge.tuning.experiment import TrialPod
from caloforge.tuning.local import run_experiment
from caloforge.tuning.result import Tuning
from caloforge.tuning.space import Value, format_value

BuildExperiment = Callable[..., dict[str, Any]]
"""Takes ``name`` and ``pod`` to an Experiment."""


def trial_command(preset: str, *options: Mapping[str, Any], fixed: Mapping[str, Value] | None = None) -> list[str]:
    """Return what every trial of a search begins with.

    Args:
        preset: name of the preset.
        options: of ``caloforge trial``, without dashes; ``None`` is none, ``True`` a flag.
        fixed: paths of settings that are the same for all trials.
    """
    # -P: a folder called caloforge in the current directory is not the package.
    command = ["python", "-P", "-m", "caloforge", "trial", f"--preset={preset}"]
    for name, value in (item for some in options for item in some.items() if item[1] is not None):
        command.append(f"--{name}" if value is True else f"--{name}={value}")
    return [*command, *(f"--set={path}={format_value(value)}" for path, value in (fixed or {}).items())]


def run_trials(
    build: BuildExperiment, name: str, pod: TrialPod, output: Path, *, cluster: bool, timeout: float | None = None
) -> Tuning:
    """Run an Experiment and return its trials; one that was stopped goes on.

    Args:
        build: the Experiment but for its name and pod.
        name: what its name begins with.
        pod: what a trial gets on a cluster.
        output: folder for ``experiment.json`` and, where trials are subprocesses, theirs.
        cluster: with Katib in place of subprocesses.
        timeout: seconds to wait in all.
    """
    if cluster:
        return _on_katib(build, name, pod, output, timeout=timeout)
    return run_experiment(build(name=name, pod=pod), output, timeout=timeout)


def _on_katib(build: BuildExperiment, name: str, pod: TrialPod, output: Path, *, timeout: float | None) -> Tuning:
    from caloforge.cluster import connect
    from caloforge.tuning.katib import run_on_katib

    cluster = connect(pod.namespace or None)
    pod = pod.model_copy(update={"namespace": cluster.namespace})
    # Other tunings of the family may run beside this one; a second attempt finds its first one's.
    experiment = build(name=f"{name}-{digest_of(build(name=name, pod=pod))[:8]}", pod=pod)
    write_json(output / "experiment.json", experiment)
    return run_on_katib(experiment, cluster, timeout=timeout)
