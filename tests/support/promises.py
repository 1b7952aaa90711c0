"""What a cluster's users are promised, and the tests that keep it: told by name at the end of each run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

PROMISES: Mapping[str, tuple[str, ...]] = {
    "data by address, fetched by us": ("core/test_fetch", "pipelines/doctor/test_data", "test_nothing_is_imported"),
    "a run that can be read": (
        "pipelines/kubeflow/test_status",
        "test_recorded_runs",
        "kubeflow/test_show",
        "test_specification",
    ),
    "why a step failed or waits": ("test_pod_causes", "test_run_pods", "test_step_log", "test_task.py", "test_ending"),
    "results of every run": ("pipelines/kubeflow/test_artifacts", "pipelines/test_layout", "core/test_index"),
    "manifests in parts": ("tests/test_manifests.py",),
    "objects as the webhooks want them": ("core/test_pods", "tuning/test_experiment", "tuning/test_optimization_job"),
    "Pod Security restricted": ("restricted", "doctor/test_security"),
    "retries as they are": ("tried_again", "lost"),
    "deployments": ("serving/test_rollout", "serving/test_readiness", "serving/test_forward", "serving/test_deploy"),
    "what doctor finds": ("pipelines/doctor/",),
    "fewer pods": ("test_the_number_of_pods",),
    "what the UI shows": ("test_the_form_asks", "test_what_people_see", "components/test_overview"),
    "one fault does not cost the run": ("test_family.py", "core/test_memory", "test_worker", "away"),
}
"""Promise to parts of the names of tests."""


def kept(reports: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """Yield a line for each promise of which something was tested.

    Args:
        reports: outcome and report of each test.
    """
    tested = [(outcome, report.nodeid) for outcome, report in reports if getattr(report, "when", "") == "call"]
    for promise, parts in PROMISES.items():
        outcomes = [outcome for outcome, name in tested if any(part in name for part in parts)]
        if outcomes:
            failed = len(outcomes) - outcomes.count("passed")
            yield f"{promise:<36}{outcomes.count('passed'):4d} passed" + (f", {failed} failed" if failed else "")
