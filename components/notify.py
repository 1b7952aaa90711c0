"""The step that says how the run ended."""

from kfp import dsl

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def notify(status: dsl.PipelineTaskFinalStatus, pipeline: str = "", run: str = "", run_id: str = "") -> None:
    """Post the final status to the webhook, if one is set; its log has it in any case.

    Args:
        status: how the steps ended.
        pipeline: name of the pipeline.
        run: name of the run.
        run_id: its identifier.
    """
    from caloforge.components.task import task
    from caloforge.webhook import announce, final_status

    with task("notify"):
        announce(final_status(status, pipeline=pipeline, run=run, run_id=run_id))
