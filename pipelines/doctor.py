"""Look at a cluster before the first run, and say what is missing together with the command that mends it."""

from collections.abc import Mapping, Sequence

from caloforge.cluster import ClusterError, connect
from caloforge.errors import InputError
from caloforge.pipelines.doctor_cluster import (
    check_account,
    check_namespace,
    check_nodes,
    check_products,
    check_rights,
    check_runtime,
    check_secrets,
    check_storage,
    check_version,
)
from caloforge.pipelines.doctor_services import check_image, check_pipelines
from caloforge.pipelines.findings import Check, Finding, Site, State
from caloforge.pipelines.rights import USUAL, Use
from caloforge.pipelines.settings import PipelineSettings

SERVICE_CHECKS: Mapping[str, Check] = {
    "pipelines": check_pipelines,
    "image": check_image,
}
"""What can be checked without a cluster; one line each."""

CLUSTER_CHECKS: Mapping[str, Check] = {
    "products": check_products,
    "rights": check_rights,
    "account": check_account,
    "namespace": check_namespace,
    "storage": check_storage,
    "secrets": check_secrets,
    "nodes": check_nodes,
    "runtime": check_runtime,
}
"""What the API server is asked; one line each."""

PATIENCE_SECONDS = 5.0
"""A check does not wait for an API server that is away."""

_MARKS = {"ok": "ok", "failed": "FAILED", "warning": "warning", "unknown": "?"}


def examine(
    *,
    settings: PipelineSettings | None = None,
    context: str | None = None,
    namespace: str | None = None,
    host: str | None = None,
) -> dict[str, list[Finding]]:
    """Return what was found, by the name of the check.

    Args:
        settings: of the pipeline; what they do not ask for is no failure. Without them all must work.
        context: of the kubeconfig.
        namespace: of the runs; without it that of the settings, then that of the context.
        host: address of Kubeflow Pipelines.
    """
    wanted = frozenset(USUAL) if settings is None else uses(settings)
    settings = settings or PipelineSettings()
    if namespace:
        settings = settings.model_copy(update={"namespace": namespace})
    found: dict[str, list[Finding]] = {}
    try:
        cluster = connect(settings.namespace or None, context=context)
    except InputError as error:
        state: State = "unknown" if context is None else "failed"
        found["cluster"] = [Finding(state, str(error), "kubectl config get-contexts")]
        site = Site(settings, wanted, host)
    else:
        cluster.patience, cluster.poll_seconds = PATIENCE_SECONDS, 1.0
        site = Site(settings, wanted, host, cluster)
        found["cluster"] = _guarded("cluster", check_version, site)
    reached = found["cluster"][0].state == "ok"
    for name, check in {**CLUSTER_CHECKS, **SERVICE_CHECKS}.items():
        if reached or name in SERVICE_CHECKS:
            found[name] = _guarded(name, check, site)
        else:
            found[name] = [Finding("unknown", f"{_question(check)} Not asked: there is no cluster")]
    return found


def uses(settings: PipelineSettings) -> frozenset[Use]:
    """Return what a pipeline asks of a cluster beside Kubeflow Pipelines."""
    tunes = settings.tuning.trials > 0
    asked: dict[Use, bool] = {
        "deploy": bool(settings.deploy),
        "tune": tunes and settings.tuning.backend in ("katib", "auto"),
        "distribute": settings.trains_in_train_job,
        "search": tunes and settings.tuning.backend == "optimizationjob",
    }
    return frozenset(use for use, is_asked in asked.items() if is_asked)


def failed(found: Mapping[str, Sequence[Finding]]) -> bool:
    """Return whether the first run would fail."""
    return any(finding.state == "failed" for findings in found.values() for finding in findings)


def findings_table(found: Mapping[str, Sequence[Finding]]) -> str:
    """Return the findings as text, each with its fix below it."""
    width = max(len(name) for name in found)
    lines = []
    for name, findings in found.items():
        for finding in findings:
            lines.append(f"{_MARKS[finding.state]:<8} {name:<{width}}  {finding.text}")
            if finding.fix and finding.state != "ok":
                lines.append(f"{'':<8} {'':<{width}}  -> {finding.fix}")
    counts = {state: sum(f.state == state for fs in found.values() for f in fs) for state in _MARKS}
    lines.append("")
    lines.append(
        f"{counts['ok']} ok, {counts['failed']} failed, {counts['warning']} warnings, "
        f"{counts['unknown']} could not be checked"
    )
    return "\n".join(lines)


def _guarded(name: str, check: Check, site: Site) -> list[Finding]:
    """Make a check; what it did not expect is a finding too."""
    try:
        findings = list(check(site))
    except (InputError, ClusterError) as error:
        if name == "cluster":
            return [Finding("failed", str(error), "kubectl cluster-info")]
        return [Finding("unknown", str(error))]
    return findings or [Finding("ok", "nothing of it is asked for")]


def _question(check: Check) -> str:
    return (check.__doc__ or "").splitlines()[0]
