"""The step that serves a bundle and asks it for showers."""

from kfp import dsl
from kfp.dsl import Input, Metrics, Model, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def smoke(bundle: Input[Model], metrics: Output[Metrics], seed: int = 0, code_version: str = "") -> None:
    """Serve the bundle with KServe, query it and compare with in-process sampling.

    Args:
        bundle: exported generator bundle.
        metrics: latency and largest difference.
        seed: seed of the showers asked for.
        code_version: another version makes another cache entry.
    """
    from pathlib import Path

    from caloforge.components.artifacts import log_scalars
    from caloforge.components.task import task
    from caloforge.serving.smoke import smoke_test

    with task():
        log_scalars(metrics, smoke_test(Path(bundle.path), seed=seed))
