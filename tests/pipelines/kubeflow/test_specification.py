"""The order of steps, from what kfp's compiler writes."""

from pathlib import Path

import yaml
from kfp import compiler, dsl
from recorded import specification

from caloforge.pipelines.kubeflow.specification import is_ours, pipeline_name, steps_of


@dsl.component(base_image="python:3.12")
def work(text: str = "") -> str:
    """Do something."""
    return text


@dsl.component(base_image="python:3.12")
def end(status: dsl.PipelineTaskFinalStatus) -> None:
    """Say how it ended."""


def _compiled(pipeline: object, folder: Path) -> dict[str, object]:
    path = folder / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    return next(iter(yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)))


def test_recorded_pipeline() -> None:
    titles = [step.title for step in steps_of(specification(), {})]
    assert titles == [
        "preprocess", "tune [vae]", "tune [coupling_flow]", "train [vae]", "train [coupling_flow]",
        "generate [vae]", "generate [coupling_flow]", "validate", "compare", "export", "deploy", "notify",
    ]  # fmt: skip
    assert pipeline_name(specification()) == "caloforge"
    assert is_ours(specification())


def test_the_runs_families_go_before_the_defaults() -> None:
    steps = steps_of(specification(), {"families": ["wgan"]})
    assert [step.family for step in steps if step.name == "train"] == ["wgan"]


def test_a_loop_has_as_many_iterations_as_were_counted() -> None:
    loop = ("root", "caloforge-steps", "for-loop-1")
    more = steps_of(specification(), {}, lambda path: 3 if path == loop else None)
    assert [step.family for step in more if step.name == "train"] == ["vae", "coupling_flow", "#3"]
    fewer = steps_of(specification(), {}, lambda path: 1)
    assert [step.family for step in fewer if step.name == "train"] == ["vae"]


def test_a_pipeline_without_groups_around_its_steps(tmp_path: Path) -> None:
    @dsl.pipeline(name="flat")
    def flat(families: list[str] = ["a", "b"], data: str = "s3://b/c") -> None:  # noqa: B006
        dsl.importer(artifact_uri=data, artifact_class=dsl.Dataset)
        prepared = work(text=data).set_display_name("zz-preprocess")
        with dsl.ParallelFor(families, name="families") as family:
            trained = work(text=family).after(prepared).set_display_name("train")
            work(text=trained.output).set_display_name("generate")
        judged = work().after(trained).set_display_name("aa-validate")
        with dsl.If(judged.output == "x", name="maybe"):
            work().set_display_name("deploy")

    content = _compiled(flat, tmp_path)
    steps = steps_of(content, {})
    assert [step.title for step in steps] == [
        "zz-preprocess", "train [a]", "train [b]", "generate [a]", "generate [b]", "aa-validate", "deploy",
    ]  # fmt: skip
    assert steps[0].path == ("root", "work")
    assert steps[2].path == ("root", "for-loop-1", "iteration-iterations(1:1)", "iteration-item", "work-2")
    assert [step.title for step in steps if step.conditional] == ["deploy"]
    assert not is_ours(content)
    assert [step.family for step in steps_of(content, {"families": '["c"]'}) if step.name == "train"] == ["c"]


def test_what_runs_in_any_case_is_a_hook(tmp_path: Path) -> None:
    @dsl.pipeline(name="inner")
    def inner() -> None:
        work()

    @dsl.pipeline(name="ends")
    def ends() -> None:
        end().after(inner()).ignore_upstream_failure()

    steps = steps_of(_compiled(ends, tmp_path), {})
    assert [step.path for step in steps] == [("root", "inner", "work"), ("root", "inner.onExit", "end")]
