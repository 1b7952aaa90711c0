"""The last step: one page that says how good the generators are, and the index of the run's results."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def overview(
    judgement: Input[Dataset],
    leaderboard: Input[Dataset],
    page: Output[HTML],
    index: Output[Dataset],
    families: list[str],
    preprocessed: str,
    trained: list[str],
    generated: list[str],
    judged: str,
    exported: str,
    optimised: str = "",
    tuned: list[str] = [],  # noqa: B006 - kfp takes it as the default
    distilled: list[str] = [],  # noqa: B006 - kfp takes it as the default
    url: str = "",
    pipeline: str = "",
    run: str = "",
    code_version: str = "",
) -> None:
    """Write the overview and the index; never to be taken from a cache, as only a step done in this run lies under it.

    Args:
        judgement: folder with metrics.json and plots.
        leaderboard: JSON of the leaderboard.
        page: self-contained page for the first look.
        index: JSON of the run's results: where each lies, its size and checksum.
        families: generator families in the order of the loop's iterations.
        preprocessed: record of preprocess.
        trained: records of train, one for each family.
        generated: records of generate.
        judged: record of validate.
        exported: record of export.
        optimised: record of optimise; empty without it.
        tuned: records of tune; none without a search.
        distilled: records of distill; none without students.
        url: of the deployed generator; empty: none.
        pipeline: name of the pipeline.
        run: identifier of the run.
        code_version: digest of the code.
    """
    from pathlib import Path

    from caloforge import __version__
    from caloforge.components.artifacts import describe, record
    from caloforge.components.task import task
    from caloforge.files import write_json
    from caloforge.index import Index
    from caloforge.validation.judgement import Judgement
    from caloforge.validation.report.leaderboard import Leaderboard
    from caloforge.validation.report.overview import write_overview

    with task("overview"):
        last = [optimised] if optimised else []
        records = [preprocessed, *tuned, *trained, *distilled, *generated, judged, exported, *last]
        facts = {"families": families, "pipeline": pipeline, "run": run, "url": url, "caloforge": __version__}
        found = Index.gather(records, **facts)
        folder = Path(judgement.path)
        write_overview(
            Judgement.read(folder / "metrics.json"), Leaderboard.read(Path(leaderboard.path)), folder / "plots", found,
            Path(page.path),
        )  # fmt: skip
        describe(page)
        whole = Index.gather([*records, record("overview", {"page": page})], **facts)
        write_json(Path(index.path), whole.model_dump(mode="json"))
        describe(index)
