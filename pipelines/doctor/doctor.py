"""Look at a cluster before the first run, and say what is missing together with the command that mends it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from caloforge.cluster import ClusterError, connect
from caloforge.errors import InputError
from caloforge.pipelines.doctor.cluster import check_namespace, check_version
from caloforge.pipelines.doctor.data import check_data
from caloforge.pipelines.doctor.findings import Check, Finding, Site, State
from caloforge.pipelines.doctor.image import check_image
from caloforge.pipelines.doctor.nodes import check_nodes
from caloforge.pipelines.doctor.products import check_products, check_runtime
from caloforge.pipelines.doctor.quotas import check_quotas
from caloforge.pipelines.doctor.rights import check_account, check_rights
from caloforge.pipelines.doctor.secrets import check_secrets
from caloforge.pipelines.doctor.security import check_security
from caloforge.pipelines.doctor.services import check_pipelines
from caloforge.pipelines.doctor.storage import check_storage
from caloforge.pipelines.manifests.rights import USUAL, Use
from caloforge.pipelines.settings import PipelineSettings
from caloforge.place import TUNE_BACKENDS, place

SERVICE_CHECKS: Mapping[str, Check] = {
    "pipelines": check_pipelines,
    "image": check_image,
    "data": check_data,
}
"""What can be checked without a cluster; one line each."""

CLUSTER_CHECKS: Mapping[str, Check] = {
    "products": check_products,
    "rights": check_rights,
    "account": check_account,
    "namespace": check_namespace,
    "security": check_security,
    "quotas": check_quotas,
    "storage": check_storage,
    "secrets": check_secrets,
    "nodes": check_nodes,
    "runtime": check_runtime,
}
"""What the API server is asked; one line each."""

PATIENCE_SECONDS = 5.0
"""A check does not wait for an API server that is away."""

FAILED, NOTHING_ASKED, WARNED = 1, 3, 4
"""How the command ends if it does not end well."""

_MARKS = {"ok": "ok", "failed": "FAILED", "warning": "warning", "unknown": "?"}


def examine(
    *,
    settings: PipelineSettings | None = None,
    context: str | None = None,
    namespace: str | None = None,
    host: str | None = None,
    token_file: Path | None = None,
    cookies_file: Path | None = None,
) -> dict[str, list[Finding]]:
    """Return what was found, by the name of the check.

    Args:
        settings: of the pipeline; what they do not ask for is no failure. Without them all must work.
        context: of the kubeconfig.
        namespace: of the runs; without it that of the settings, then that of the context.
        host: address of Kubeflow Pipelines.
        token_file: file with the token for it.
        cookies_file: file with cookies for it.
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
        site = Site(settings, wanted, host, None, token_file, cookies_file)
    else:
        cluster.patience, cluster.poll_seconds = PATIENCE_SECONDS, 1.0
        site = Site(settings, wanted, host, cluster, token_file, cookies_file)
        found["cluster"] = _guarded("cluster", check_version, site)
        if context is None:  # nobody asked for this cluster, and a run is started without it
            found["cluster"] = [
                replace(one, state="unknown") if one.state == "failed" else one for one in found["cluster"]
            ]
    reached = found["cluster"][0].state == "ok"
    for name, check in {**CLUSTER_CHECKS, **SERVICE_CHECKS}.items():
        if reached or name in SERVICE_CHECKS:
            found[name] = _guarded(name, check, site)
        else:
            found[name] = [Finding("unknown", f"{_question(check)} Not asked: there is no cluster")]
    return found


def uses(settings: PipelineSettings) -> frozenset[Use]:
    """Return what a pipeline asks of a cluster beside Kubeflow Pipelines."""
    tuning = settings.tuning
    tunes = tuning.trials > 0 and place(tuning.backend, TUNE_BACKENDS, inside=True) == "cluster"
    asked: dict[Use, bool] = {
        "deploy": bool(settings.deploy),
        "tune": tunes and tuning.backend != "optimizationjob",
        "distribute": settings.trains_in_train_job,
        "search": tunes and tuning.backend == "optimizationjob",
    }
    return frozenset(use for use, is_asked in asked.items() if is_asked)


def failed(found: Mapping[str, Sequence[Finding]]) -> bool:
    """Return whether the first run would fail."""
    return any(finding.state == "failed" for findings in found.values() for finding in findings)


def exit_code(found: Mapping[str, Sequence[Finding]], *, strict: bool = False) -> int:
    """Return how a command ends that found this.

    Args:
        found: by the name of the check.
        strict: whether warnings count.

    Returns:
        0 if nothing hinders a run, 1 if one would fail, 3 if neither the cluster nor Kubeflow Pipelines could be asked,
        4 if there are warnings that count. 2 is wrong input, as of every command.
    """
    if failed(found):
        return FAILED
    if _nothing_asked(found):
        return NOTHING_ASKED
    if strict and any(finding.state == "warning" for findings in found.values() for finding in findings):
        return WARNED
    return 0


def findings_table(found: Mapping[str, Sequence[Finding]]) -> str:
    """Return the findings as text, each with its fix below it."""
    width = max(len(name) for name in found)
    lines = []
    for name, findings in found.items():
        for finding in findings:
            lines.append(f"{_MARKS[finding.state]:<8} {name:<{width}}  {finding.text}")
            if finding.fix and finding.state != "ok":
                lines.append(f"{'':<8} {'':<{width}}  -> {finding.fix}")
    if _nothing_asked(found):
        lines.append("")
        lines.append("neither the cluster nor Kubeflow Pipelines could be asked: nothing is known of a run there")
    counts = {state: sum(f.state == state for fs in found.values() for f in fs) for state in _MARKS}
    lines.append("")
    lines.append(
        f"{counts['ok']} ok, {counts['failed']} failed, {counts['warning']} warnings, "
        f"{counts['unknown']} could not be checked"
    )
    return "\n".join(lines)


def _nothing_asked(found: Mapping[str, Sequence[Finding]]) -> bool:
    return all(finding.state == "unknown" for name in ("cluster", "pipelines") for finding in found[name])


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
