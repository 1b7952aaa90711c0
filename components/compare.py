"""The step that ranks the generators and picks the winner."""

from kfp import dsl
from kfp.dsl import ClassificationMetrics, Dataset, Input, Markdown, Model, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def compare(
    judgement: Input[Dataset],
    bundles: Input[list[Model]],
    leaderboard: Output[Dataset],
    summary: Output[Markdown],
    winner: Output[Model],
    roc: Output[ClassificationMetrics],
    code_version: str = "",
) -> str:
    """Make the leaderboard and hand on the bundle that leads it.

    Args:
        judgement: folder with metrics.json.
        bundles: generator bundles, one for each judged generator.
        leaderboard: JSON of the rows and of the rule.
        summary: the same as a table.
        winner: copy of the leading bundle.
        roc: ROC of the classifier that tells the winner's showers from Geant4's.
        code_version: another version makes another cache entry.

    Returns:
        Name of the winner.
    """
    from pathlib import Path

    from caloforge.components.artifacts import copy_folder, describe, log_roc
    from caloforge.components.task import task
    from caloforge.files import read_json, write_json
    from caloforge.steps import step
    from caloforge.validation.leaderboard import leaderboard as make_leaderboard
    from caloforge.validation.leaderboard import leaderboard_markdown

    with task("compare"), step("compare"):
        metrics = read_json(Path(judgement.path) / "metrics.json")
        board = make_leaderboard(metrics)
        name = board["winner"]
        write_json(Path(leaderboard.path), board)
        Path(summary.path).write_text(leaderboard_markdown(board))
        copy_folder(next(Path(b.path) for b in bundles if b.metadata["family"] == name), Path(winner.path))
        log_roc(roc, **metrics["generators"][name]["roc"])
        describe(winner, family=name)
        return str(name)
