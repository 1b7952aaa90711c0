"""The step that adds the ONNX graph to a bundle."""

from kfp import dsl
from kfp.dsl import Input, Metrics, Model, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def export(
    bundle: Input[Model], exported: Output[Model], metrics: Output[Metrics], steps: int = 0, code_version: str = ""
) -> None:
    """Add generator.onnx to a copy of the bundle and check it against PyTorch.

    Args:
        bundle: generator bundle.
        exported: the same with generator.onnx.
        metrics: how far ONNX Runtime and PyTorch differ.
        steps: sampling steps in the graph; 0: the bundle's own.
        code_version: another version makes another cache entry.
    """
    from pathlib import Path

    from caloforge.components.artifacts import describe, log_scalars
    from caloforge.components.task import task
    from caloforge.models.export import export as export_bundle

    with task("export"):
        log_scalars(metrics, export_bundle(Path(bundle.path), Path(exported.path), steps=steps or None))
        describe(exported, family=bundle.metadata["family"])
