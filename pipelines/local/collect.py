"""Lay the results of a run on this machine where a user looks for them, without a second copy on the disk."""

from pathlib import Path

from caloforge.index import Index
from caloforge.pipelines.layout import PIPELINE, TIMINGS, ResultFolder


def collect(index: Path, output: Path) -> None:
    """Link what the index names into the output folder, as :data:`caloforge.pipelines.layout.PLACES` says.

    What an earlier run left there of a family that this one has not goes.

    Args:
        index: that the step ``overview`` wrote.
        output: gets the links.

    Raises:
        InputError: something that is not ours is in the way there.
    """
    folder = ResultFolder(output)
    laid = [PIPELINE, TIMINGS]
    for artifact in Index.read(index).artifacts:
        laid += folder.lay(artifact.step, artifact.name, Path(artifact.address), family=artifact.family)
    folder.keep_only(laid)
