"""A small pipeline around the step ``overview``, run by kfp.local; what it is given comes from standard input."""

import json
import sys
from typing import NamedTuple

from kfp import dsl, local
from kfp.dsl import Dataset, Model, Output

from caloforge.components.overview import overview

given = json.load(sys.stdin)


@dsl.component(base_image="python", install_kfp_package=False)
def make(family: str, bundle: Output[Model]) -> NamedTuple("Outputs", [("record", str)]):
    from pathlib import Path

    from caloforge.components.artifacts import record

    Path(bundle.path).mkdir(parents=True)
    (Path(bundle.path) / "config.json").write_text(family)
    return (record("train", {"bundle": bundle}, family=family, failed="it diverged" if family == "wgan" else ""),)


@dsl.component(base_image="python", install_kfp_package=False)
def judge(folder: str, judgement: Output[Dataset], leaderboard: Output[Dataset]) -> NamedTuple(
    "Outputs", [("record", str)]
):
    import shutil
    from pathlib import Path

    from caloforge.components.artifacts import record

    shutil.copytree(folder, judgement.path)
    shutil.copyfile(Path(folder) / "leaderboard", leaderboard.path)
    return (record("validate", {"leaderboard": leaderboard}),)


@dsl.pipeline(name="caloforge")
def pipeline(families: list[str]) -> Dataset:
    with dsl.ParallelFor(families) as family:
        made = make(family=family)
    judged = judge(folder=given["judgement"])
    return (
        overview(
            judgement=judged.outputs["judgement"],
            leaderboard=judged.outputs["leaderboard"],
            families=families,
            preprocessed=given["preprocessed"],
            trained=dsl.Collected(made.outputs["record"]),
            generated=dsl.Collected(made.outputs["record"]),
            judged=judged.outputs["record"],
            exported=given["exported"],
            url="http://calo.example.org",
            pipeline="caloforge",
            run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        )
        .set_caching_options(False)
        .outputs["index"]
    )


local.init(
    local.SubprocessRunner(use_venv=False),
    pipeline_root=given["root"],
    workspace_root=given["root"] + "/workspace",
    enable_caching=True,
    cache_root=given["root"] + "/cache",
)
sys.stdout.write(f"RESULT {pipeline(families=given['families']).output.path}\n")
