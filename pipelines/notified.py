"""Say how a run ended, whether it succeeded or not."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from kfp import dsl

from caloforge.components.notify import notify
from caloforge.pipelines.names import name_loop
from caloforge.pipelines.placement import place
from caloforge.pipelines.settings import PipelineSettings


def notified(steps: Callable[..., Any], settings: PipelineSettings) -> Callable[..., Any]:
    """Return a pipeline function that runs ``steps`` and then, in any case, the step ``notify``.

    ``dsl.ExitHandler`` would do that too, but what runs inside one can return nothing, and a local
    run is made of what the pipeline returns. Here the steps are one task, a pipeline within the
    pipeline, and ``notify`` starts when that task has ended, well or not. It compiles to the same
    (a group with an exit task, ``ALL_UPSTREAM_TASKS_COMPLETED``), only that the group has outputs.

    Args:
        steps: pipeline function that returns a named tuple.
        settings: settings of the pipeline.
    """
    signature = inspect.signature(steps)
    inner = name_loop(dsl.pipeline(name=f"{settings.name}-steps")(steps))

    @functools.wraps(steps)  # kfp reads parameters, their types, defaults and descriptions from it
    def whole(*values: Any, **named: Any) -> Any:
        group = inner(**signature.bind(*values, **named).arguments).set_display_name("steps")
        last = notify(
            pipeline=settings.name, run=dsl.PIPELINE_JOB_NAME_PLACEHOLDER, run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER
        )
        place(last, settings, "notify").after(group).ignore_upstream_failure()
        results = signature.return_annotation
        return results(**{name: group.outputs[name] for name in results._fields})

    return whole
