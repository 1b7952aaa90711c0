"""The steps of a run in the pipeline's order, as its specification and its parameters have them."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Spec = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """What runs one container, once for each family.

    Attributes:
        name: of the task, as the user interface shows it.
        family: of the loop's iteration; empty outside of a loop.
        path: Argo's names of the nodes down to it, without the workflow's.
        conditional: whether a run that succeeds may have left it out.
    """

    name: str
    family: str
    path: tuple[str, ...]
    conditional: bool = False

    @property
    def title(self) -> str:
        """As people read it: ``train [vae]``."""
        return f"{self.name} [{self.family}]" if self.family else self.name


Counted = Callable[[tuple[str, ...]], int | None]
"""How many iterations a loop, by its path, really has; None if nobody has counted them yet."""


def steps_of(content: Spec, parameters: Mapping[str, Any], counted: Counted = lambda path: None) -> tuple[Step, ...]:
    """Return the steps of a pipeline; those of a loop one after another, each with all of its families.

    Args:
        content: what the API calls ``pipeline_spec``, with or without the platform's part beside it.
        parameters: of the run; the specification has defaults for others.
        counted: iterations that are there; one that no parameter names gets its number for a name.
    """
    spec: Spec = content.get("pipeline_spec", content)
    defaults = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    values = {name: one["defaultValue"] for name, one in defaults.items() if "defaultValue" in one}
    walk = _Walk(spec, counted)
    return tuple(walk.steps(spec["root"], ("root",), {**values, **parameters}, "", conditional=False))


def pipeline_name(content: Spec) -> str:
    """Return the name of a pipeline; empty if its specification has none."""
    return str(content.get("pipeline_spec", content).get("pipelineInfo", {}).get("name", ""))


def is_ours(content: Spec) -> bool:
    """Return whether a pipeline has steps of this package."""
    return "caloforge." in json.dumps(content.get("pipeline_spec", content).get("deploymentSpec", {}))


@dataclass(frozen=True)
class _Walk:
    """The way through the groups of a pipeline."""

    spec: Spec
    counted: Counted

    def steps(
        self, component: Spec, path: tuple[str, ...], values: Mapping[str, Any], family: str, *, conditional: bool
    ) -> Iterator[Step]:
        """Yield the steps of a group."""
        tasks = component.get("dag", {}).get("tasks", {})
        for key in _in_order(tasks):
            task = tasks[key]
            inner = self.spec["components"][task["componentRef"]["name"]]
            trigger = task.get("triggerPolicy", {})
            # A task that runs in any case is what Argo calls a hook of the one that it waits for.
            ends = trigger.get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED" and task.get("dependentTasks")
            here = (*path, f"{task['dependentTasks'][0]}.onExit", key) if ends else (*path, key)
            may_miss = conditional or "condition" in trigger
            known = _inputs(task, values)
            if "executorLabel" in inner:
                if "container" not in self.spec["deploymentSpec"]["executors"][inner["executorLabel"]]:
                    continue  # an importer runs nothing
                yield Step(task.get("taskInfo", {}).get("name", key), family, here, conditional=may_miss)
            elif "parameterIterator" in task:
                items = self._items(task["parameterIterator"], known, here)
                rounds = [
                    list(self.steps(inner, (*here, *_iteration(number)), known, item, conditional=may_miss))
                    for number, item in enumerate(items)
                ]
                yield from (step for same in zip(*rounds, strict=True) for step in same)
            else:
                yield from self.steps(inner, here, known, family, conditional=may_miss)

    def _items(self, iterator: Spec, values: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
        """Return what a loop runs over."""
        source = iterator["items"]
        found = source.get("raw", values.get(source.get("inputParameter", ""), []))
        items = json.loads(found) if isinstance(found, str) else found
        names = [str(item) for item in items] if isinstance(items, list) else []
        count = self.counted(path)
        if count is None:
            return names
        return [*names, *(f"#{number + 1}" for number in range(len(names), count))][:count]


def _iteration(number: int) -> tuple[str, str]:
    return f"iteration-iterations({number}:{number})", "iteration-item"


def _in_order(tasks: Spec) -> list[str]:
    """Return the names of tasks, each after those that it waits for."""
    left, done = sorted(tasks), list[str]()
    while left:
        ready = next(key for key in left if not set(tasks[key].get("dependentTasks", ())) & set(left))
        left.remove(ready)
        done.append(ready)
    return done


def _inputs(task: Spec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a task's parameters before the run."""
    known = {}
    for name, source in task.get("inputs", {}).get("parameters", {}).items():
        if source.get("componentInputParameter") in values:
            known[name] = values[source["componentInputParameter"]]
        elif "constant" in source.get("runtimeValue", {}):
            known[name] = source["runtimeValue"]["constant"]
    return known
