"""Find where Kubeflow Pipelines has put the artifacts of a run, which its API does not tell."""

import logging
from typing import Any

from caloforge import cluster
from caloforge.errors import InputError
from caloforge.pipelines.kubeflow import specification
from caloforge.pipelines.kubeflow.client import Kubeflow

logger = logging.getLogger(__name__)

SHARED = "minio://mlpipeline/v2/artifacts"
"""Where a stock Kubeflow keeps artifacts of all users together."""

PRIVATE = "minio://mlpipeline/private-artifacts/{namespace}/v2/artifacts"
"""Where one with a namespace for each user keeps them."""

_INSTALLATION = "kubeflow"
"""The usual namespace of Kubeflow Pipelines, where its own runs are if users have none."""


def pipeline_name(kubeflow: Kubeflow, run: Any) -> str:
    """Return the name of a run's pipeline, which is part of its artifacts' addresses.

    Raises:
        InputError: the run does not tell, or its version is not there any more.
    """
    name = specification.pipeline_name(kubeflow.specification(run))
    if not name:
        raise InputError(f"run {run.run_id!r} does not say which pipeline it is of")
    return name


def roots(kubeflow: Kubeflow, run: Any) -> list[str]:
    """Return where the artifacts may be, the likeliest first.

    It is the run's own pipeline root alone, if it has one; else that of the namespace's ConfigMap
    ``kfp-launcher``, where the cluster can be reached, and those that Kubeflow uses.
    """
    own = run.runtime_config.pipeline_root if run.runtime_config else None
    if own:
        return [own]
    private = [PRIVATE.format(namespace=kubeflow.namespace)] if kubeflow.namespace else []
    return list(dict.fromkeys([*_configured(kubeflow.namespace or _INSTALLATION), *private, SHARED]))


def _configured(namespace: str) -> list[str]:
    """Return the pipeline root that a namespace sets, if it does and can be asked."""
    try:
        connection = cluster.connect(namespace)
        connection.patience = 0.0  # who has no cluster at hand does not wait for one
        found = connection.request("GET", f"/api/v1/namespaces/{namespace}/configmaps/kfp-launcher")
    except (InputError, cluster.ClusterError) as error:
        logger.debug("the namespace's pipeline root cannot be read: %s", error)
        return []
    root = (found.get("data") or {}).get("defaultPipelineRoot") if isinstance(found, dict) else None
    return [root] if root else []
