"""The doctor's question to Kubeflow Pipelines."""

import os
import re
from collections.abc import Iterator
from functools import partial

from caloforge.errors import InputError
from caloforge.pipelines.doctor.findings import Finding, Site
from caloforge.pipelines.kubeflow.client import HOST, IN_CLUSTER, Kubeflow, KubeflowError
from caloforge.pods import in_pod
from caloforge.secrets import without_secrets

OLDEST = (2, 14)
"""Oldest Kubeflow Pipelines that collects the artifacts of a loop."""

NEWEST = (2, 17)
"""Newest that this package was tried with."""


def check_pipelines(site: Site) -> Iterator[Finding]:
    """Does Kubeflow Pipelines answer, let us in, and have the version that the pipeline needs?"""
    host = site.host or os.environ.get(HOST)
    if not host and not in_pod():
        text = f"Kubeflow Pipelines: no address is known; give --host or set {HOST}"
        forward = "kubectl port-forward --namespace kubeflow service/ml-pipeline-ui 8080:80"
        yield Finding("unknown", text, f"{forward}, then --host http://localhost:8080")
        return
    try:
        found = site.pipelines()
        healthz = found.ask("connect", found.client.get_kfp_healthz)
    except (InputError, KubeflowError) as error:
        yield Finding("failed", f"Kubeflow Pipelines: {error}", f"see docs/submit.md; curl -i {_shown(host)}")
        return
    version = version_of(found)
    mode = "a namespace for each user" if healthz.multi_user else "no isolation of users"
    text = f"Kubeflow Pipelines {version or 'of unknown version'} at {found.host}, {mode}"
    numbers = release(version)
    if numbers and numbers < OLDEST:
        yield Finding("failed", f"{text}: too old to collect the artifacts of a loop", "upgrade to 2.14 or later")
    elif numbers and numbers > NEWEST:
        known = ".".join(map(str, NEWEST))
        fix = "pip install --upgrade caloforge, if there is a version that knows it"
        yield Finding("warning", f"{text}: newer than {known}, which is the newest that was tried", fix)
    else:
        yield Finding("ok", text)


def release(version: str) -> tuple[int, int] | None:
    """Return the first two numbers of a version; None if it does not begin with two."""
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(numbers[1]), int(numbers[2])) if numbers else None


def version_of(found: Kubeflow) -> str:
    """Return the version of the server, which only the older API tells; empty if it does not."""
    api = found.client._healthz_api.api_client
    call = partial(
        api.call_api, "/apis/v1beta1/healthz", "GET", header_params={"Accept": "application/json"},
        auth_settings=["Bearer"], response_type="object", _return_http_data_only=True,
    )  # fmt: skip
    try:
        answer = found.ask("connect", call)
    except (InputError, KubeflowError):
        return ""
    return str(answer.get("tag_name") or "") if isinstance(answer, dict) else ""


def _shown(host: str | None) -> str:
    return f"{without_secrets(host or IN_CLUSTER).rstrip('/')}/apis/v2beta1/healthz"
