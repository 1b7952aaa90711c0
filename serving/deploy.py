"""Deploy a bundle: make or change its InferenceService, ask it for showers, and go back if they are wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from caloforge.models.export import ONNX_FILE
from caloforge.place import DEPLOY_BACKENDS, place
from caloforge.secrets import AUTHORIZATION, checked_secret
from caloforge.serving.inference_service import ServiceSettings, check_service_name, inference_service
from caloforge.serving.smoke import check_onnx, reference_showers, smoke_test
from caloforge.serving.storage_uri import storage_uri
from caloforge.steps import step


@dataclass(frozen=True)
class Deployment:
    """What a deployment left.

    Attributes:
        url: where the service answers; empty after a local one, which is stopped again.
        figures: what :func:`caloforge.serving.smoke.check_server` measured, and ``start_seconds``.
    """

    url: str
    figures: dict[str, float]


def deploy(
    bundle: Path,
    *,
    name: str = "",
    uri: str = "",
    backend: str = "auto",
    settings: ServiceSettings | None = None,
    context: str | None = None,
    seed: int = 0,
    headers: Mapping[str, str] | None = None,
    keep: bool = False,
    run: str = "",
) -> Deployment:
    """Serve a bundle, compare what the server answers with in-process sampling, and leave it running on a cluster.

    Args:
        bundle: folder of the generator, as this process sees it.
        name: of the InferenceService; empty: only serve and query on this machine.
        uri: address of the bundle for the cluster; empty: ``bundle``, which must lie on a claim then.
        backend: ``local`` for a subprocess that is stopped after the query, ``kserve`` for a cluster, ``auto``
            for KServe within a pod and a subprocess elsewhere.
        settings: how it is served on a cluster.
        context: of the kubeconfig.
        seed: of the showers that are compared.
        headers: sent with the query, e.g. Authorization.
        keep: leave a service that failed as it is, to look into it.
        run: identity of the run, by which a step that is tried again knows its own unfinished work.

    Raises:
        InputError: something is wrong with what was given, or the cluster refuses.
        ServingError: the server does not come up or answers wrongly; the service is as it was before.
        ClusterError: the cluster does not answer any more.
    """
    settings = settings or ServiceSettings()
    if place(backend, DEPLOY_BACKENDS) == "local" or not name:
        return Deployment("", smoke_test(bundle, seed=seed))
    from caloforge.cluster import connect
    from caloforge.serving.rollout import Rollout

    check_service_name(name)
    body = inference_service(name, storage_uri(uri or str(bundle.absolute()), settings.claims), settings)
    cluster = connect(settings.namespace or None, context=context)
    if value := os.environ.get(AUTHORIZATION, "").strip():
        checked_secret(value, where=AUTHORIZATION, what="header")
        headers = {"Authorization": value, **(headers or {})}
    with step("deploy"):
        reference = reference_showers(bundle, seed=seed)
        rollout = Rollout(body, cluster, run=run, keep=keep)
        url, figures = rollout.complete(reference, headers=headers, timeout=60 * settings.ready_minutes)
        if (bundle / ONNX_FILE).is_file():
            figures["onnx_max_relative_difference"] = check_onnx(bundle, reference.conditions, seed=seed)
    return Deployment(url, figures)
