"""The step that makes the winner ready for use: with an ONNX graph, and served once."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def export(
    bundles: Input[list[Model]],
    leaderboard: Input[Dataset],
    exported: Output[Model],
    metrics: Output[Metrics],
    steps: int = 0,
    seed: int = 0,
    code_version: str = "",
) -> NamedTuple("Outputs", [("record", str)]):  # type: ignore[valid-type]
    """Add generator.onnx to a copy of the leading bundle, serve it, and compare all with PyTorch.

    Args:
        bundles: generator bundles of all families.
        leaderboard: JSON of the leaderboard.
        exported: the winner with generator.onnx.
        metrics: how far ONNX Runtime, server and PyTorch differ, and the server's latency.
        steps: sampling steps in the graph; 0: the bundle's own.
        seed: seed of the showers that are compared.
        code_version: another version makes another cache entry.

    Returns:
        Record of what was written.
    """
    from pathlib import Path

    from caloforge.components.artifacts import describe, log_scalars, record
    from caloforge.components.task import task
    from caloforge.models.export import export as export_bundle
    from caloforge.serving.smoke import smoke_test
    from caloforge.validation.report.leaderboard import Leaderboard

    with task("export"):
        winner = Leaderboard.read(Path(leaderboard.path)).winner
        source = next(Path(bundle.path) for bundle in bundles if bundle.metadata["family"] == winner)
        figures = export_bundle(source, Path(exported.path), steps=steps or None)
        log_scalars(metrics, {**figures, **smoke_test(Path(exported.path), seed=seed)}, family=winner)
        describe(exported, family=winner)
        return (record("export", {"exported": exported}, family=winner),)
