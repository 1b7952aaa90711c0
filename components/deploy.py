"""The step that serves a bundle and asks it for showers."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Input, Metrics, Model, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(
    bundle: Input[Model],
    metrics: Output[Metrics],
    name: str = "",
    backend: str = "auto",
    settings: str = "{}",
    seed: int = 0,
    run: str = "",
    code_version: str = "",
) -> NamedTuple("Outputs", [("url", str)]):  # type: ignore[valid-type]
    """Serve the bundle, query it and compare with in-process sampling; on a cluster it stays served.

    Args:
        bundle: exported generator bundle.
        metrics: latency and largest difference.
        name: of the InferenceService; empty: it is served for the comparison only.
        backend: local, kserve, or auto for KServe on a cluster.
        settings: JSON of how it is served.
        seed: seed of the showers asked for.
        run: identity of the run, by which another attempt knows what this one left.
        code_version: another version makes another cache entry.
    """
    import json
    from pathlib import Path

    from caloforge.components.artifacts import log_scalars
    from caloforge.components.task import task
    from caloforge.serving.deploy import deploy as deploy_bundle
    from caloforge.serving.inference_service import ServiceSettings

    with task("deploy"):
        service = ServiceSettings.parse(json.loads(settings), where="settings")
        result = deploy_bundle(
            Path(bundle.path), name=name, uri=bundle.uri, backend=backend, settings=service, seed=seed, run=run
        )
        log_scalars(metrics, result.figures)
    return (result.url,)
