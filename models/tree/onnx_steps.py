"""An ONNX graph of recorded steps, some of which run over tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper, load_model_from_string, numpy_helper, save_model
from torch import Tensor, nn

from caloforge.models.family import OPSETS, record_graph

Batched = Mapping[str, int]
"""Names of values, and which of their dimensions is N."""


class OnnxSteps:
    """A graph that grows step by step."""

    def __init__(self, inputs: Mapping[str, Tensor], *, opset: int) -> None:
        """Begin with the graph's inputs, (N, n) each: examples of them; ``opset`` is the operator set."""
        self._opset = opset
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs = list(inputs)
        self._values = dict(inputs)  # an example of each value that later steps may use

    def add(self, name: str, module: nn.Module, inputs: Batched, outputs: Sequence[str]) -> None:
        """Run a module once.

        Args:
            name: of the step.
            module: to be recorded.
            inputs: its arguments.
            outputs: names for what it returns.
        """
        graph = self._record(name, module, {key: self._values[key] for key in inputs}, inputs, outputs)
        self._nodes += graph.node
        self._constants += graph.initializer

    def scan(
        self,
        name: str,
        module: nn.Module,
        *,
        carried: Batched,
        tables: Mapping[str, Tensor],
        known: Batched,
        outputs: Sequence[str],
    ) -> None:
        """Run a module for each row of some tables.

        Args:
            name: of the step.
            module: to be recorded; its arguments are carried values, a row of each table, and known values. It
                returns the carried values' next ones, then those that are stacked.
            carried: values that change from row to row.
            tables: constants with the same first dimension, of one row or more.
            known: values that stay as they are.
            outputs: names for the last carried values and the stacks.
        """
        before = {f"{name}/{key}": self._values[key] for key in carried}
        rows = {f"{name}/{key}": table[0] for key, table in tables.items()}
        batched = {**{f"{name}/{key}": axis for key, axis in carried.items()}, **known}
        given = {**before, **rows, **{key: self._values[key] for key in known}}
        body = self._record(name, module, given, batched, outputs, within=f"{name}/")
        for key in outputs[len(carried) :]:
            row = self._values[key]
            self._values[key] = row.expand(len(next(iter(tables.values()))), *row.shape)
        for entry in [entry for entry in body.input if entry.name in known]:
            body.input.remove(entry)  # it is seen from outside
        for key, table in tables.items():
            self._constants.append(numpy_helper.from_array(table.numpy(), f"{name}/{key}/table"))
        inputs = [*carried, *(f"{name}/{key}/table" for key in tables)]
        self._nodes.append(helper.make_node("Scan", inputs, outputs, body=body, num_scan_inputs=len(tables)))

    def write(self, path: Path, output: str) -> None:
        """Write the graph, with one of the values as its output, (N, n)."""
        inputs, outputs = (
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", self._values[name].shape[1]])
                for name in names
            ]
            for names in (self._inputs, [output])
        )
        graph = helper.make_graph(self._nodes, "generator", inputs, outputs, self._constants)
        opset = helper.make_opsetid("", self._opset)
        save_model(helper.make_model(graph, opset_imports=[opset], ir_version=OPSETS[self._opset]), str(path))

    def _record(
        self,
        name: str,
        module: nn.Module,
        given: Mapping[str, Tensor],
        batched: Batched,
        outputs: Sequence[str],
        within: str = "",
    ) -> Any:
        """Return a module as a graph whose values have names of their own, and remember examples of its results."""
        results = module(*given.values())
        results = (results,) if isinstance(results, Tensor) else results
        self._values |= dict(zip(outputs, results, strict=True))
        names = [f"{within}{key}" for key in outputs]
        file = BytesIO()
        record_graph(module, dict(given), names, file, batched, opset=self._opset)
        graph = load_model_from_string(file.getvalue()).graph
        outside = {*given, *names}
        for node in graph.node:
            node.name = f"{name}/{node.name}"
            for keys in (node.input, node.output):
                keys[:] = [key if key in outside or not key else f"{name}/{key}" for key in keys]
        for constant in graph.initializer:
            constant.name = f"{name}/{constant.name}"
        del graph.value_info[:]
        return graph
