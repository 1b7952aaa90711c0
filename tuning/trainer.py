"""Give an OptimizationJob to Kubeflow Trainer, wait for it, and bring its trials home."""

from __future__ import annotations

import logging
import math
import os
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from caloforge.cluster import OPTIMIZATION_JOB, TRAIN_JOB, Cluster, ClusterError, conditions
from caloforge.patience import Patience
from caloforge.tuning.optimization_job import assigned, check_optimization_job
from caloforge.tuning.result import State, Trial, Tuning

logger = logging.getLogger(__name__)

STATUS_URL = "KUBEFLOW_TRAINER_SERVER_URL"
"""Environment variable that Trainer sets where trainings may tell their figures."""

PATIENCE_SECONDS = 10.0
"""A trial that has its figures does not wait longer for somebody who wants them; they are in its log too."""


def run_on_trainer(job: dict[str, Any], cluster: Cluster, *, timeout: float | None = None) -> Tuning:
    """Create the OptimizationJob, wait for its end and delete it, whatever happens.

    Args:
        job: the OptimizationJob.
        cluster: where to.
        timeout: seconds to wait in all; those trials that are done then must do. Without it as long
            as it takes.

    Returns:
        The trials that are over, and why the search ended early if it did: a trial failed (Trainer ends the
        search then), the time was up, or the cluster did not answer any more.

    Raises:
        InputError: Trainer would refuse the object, has no OptimizationJobs, or may not be used.
    """
    check_optimization_job(job)
    name: str = job["metadata"]["name"]
    created = cluster.create(OPTIMIZATION_JOB, job)
    ended = ""
    try:
        try:
            for item in cluster.watch(OPTIMIZATION_JOB, name, timeout=timeout):
                reached = {kind: one for kind, one in conditions(item).items() if one["status"] == "True"}
                if "Complete" in reached:
                    break
                if "Failed" in reached:
                    ended = f"{reached['Failed'].get('reason')}: {reached['Failed'].get('message')}"
                    break
        except (TimeoutError, ClusterError) as error:
            ended = str(error)
        if ended:
            logger.warning("%s: %s", name, ended)
        return _result(job, created["metadata"]["uid"], cluster, ended)
    finally:
        cluster.delete(OPTIMIZATION_JOB, name)


def tell_trainer(figures: Mapping[str, float]) -> None:
    """Tell Trainer the figures of this trial, which it keeps in its TrainJob; without Trainer do nothing.

    Trainer sets the address, its certificate and a token in the environment of each pod, if its
    feature gate TrainJobStatus is on.

    Args:
        figures: numbers by name.
    """
    url = os.environ.get(STATUS_URL)
    if url is None:
        return
    status = {
        "metrics": [{"name": name, "value": f"{value:.6g}"} for name, value in figures.items() if math.isfinite(value)],
        "lastUpdatedTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
    patience = Patience(PATIENCE_SECONDS)
    while True:
        try:
            # It is renewed now and then.
            token = Path(os.environ["KUBEFLOW_TRAINER_SERVER_TOKEN"]).read_text(encoding="utf-8").strip()
            context = ssl.create_default_context(cafile=os.environ.get("KUBEFLOW_TRAINER_SERVER_CA_CERT"))
            answer = httpx.post(
                url, json={"trainerStatus": status}, headers={"Authorization": f"Bearer {token}"}, verify=context
            )
            answer.raise_for_status()
        except (httpx.HTTPError, OSError, KeyError) as error:
            if not patience.wait(f"Trainer cannot be told the figures: {error}"):
                logger.warning("Trainer was not told the figures: %s", error)
                return
        else:
            return


def _result(job: dict[str, Any], uid: str, cluster: Cluster, ended: str) -> Tuning:
    objective: str = job["spec"]["objectives"][0]["metric"]
    try:
        found = cluster.find(TRAIN_JOB)
    except ClusterError:
        found = []
    ours = [
        item for item in found if any(owner.get("uid") == uid for owner in item["metadata"].get("ownerReferences", []))
    ]
    trials = [_trial(item, objective) for item in ours if {"Complete", "Failed"} & _reached(item)]
    trials.sort(key=lambda trial: trial.name)
    if not ended and not any(trial.state == "succeeded" for trial in trials):
        ended = f"no trial gave {objective}; is Trainer's feature gate TrainJobStatus on?"
    return Tuning(objective, False, trials, ended=ended)


def _trial(item: dict[str, Any], objective: str) -> Trial:
    environment = {one["name"]: one.get("value", "") for one in item["spec"].get("trainer", {}).get("env", [])}
    told = item.get("status", {}).get("trainerStatus", {}).get("metrics", [])
    metrics = {one["name"]: float(one["value"]) for one in told}
    state: State = "succeeded" if "Complete" in _reached(item) and objective in metrics else "failed"
    return Trial(item["metadata"]["name"], state, assigned(environment), metrics, None)


def _reached(item: dict[str, Any]) -> set[str]:
    return {kind for kind, entry in conditions(item).items() if entry["status"] == "True"}
