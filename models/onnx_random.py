"""The random numbers of a generator inside its ONNX graph: the same stream as Python's and C++'s, from a seed.

See :class:`caloforge.models.noise.Noise`. Standard operators only, of the kinds that ONNX Runtime computes on a
CPU from 1.16 on: it multiplies and adds signed integers of 64 bits, shifts unsigned ones, and knows no products of 128
bits. So a word of 64 bits is two numbers of 32, and products are made of factors of 32 and 16 bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

OLDEST_OPSET = 18
"""Operator sets before it have no exclusive or of numbers."""

SEED, FIRST, NOISE = "seed", "first", "noise"
"""Inputs: of the graph with random numbers inside, and of the one without."""

BLOCKS_AT_ONCE = 8192
"""So many blocks of eight numbers are made at a time: what they are made of stays in a core's cache."""

_HALF = 2**32 - 1
_M = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10

# Cephes' ndtri (S. L. Moshier, 1989), which SciPy has too: rational functions between and beyond the quantiles of exp(-2).
_P0 = (-5.99633501014107895267e1, 9.80010754185999661536e1, -5.66762857469070293439e1, 1.39312609387279679503e1,
       -1.23916583867381258016e0)  # fmt: skip
_Q0 = (1.0, 1.95448858338141759834e0, 4.67627912898881538453e0, 8.63602421390890590575e1, -2.25462687854119370527e2,
       2.00260212380060660359e2, -8.20372256168333339912e1, 1.59056225126211695515e1, -1.18331621121330003142e0)  # fmt: skip
_P1 = (4.05544892305962419923e0, 3.15251094599893866154e1, 5.71628192246421288162e1, 4.40805073893200834700e1,
       1.46849561928858024014e1, 2.18663306850790267539e0, -1.40256079171354495875e-1, -3.50424626827848203418e-2,
       -8.57456785154685413611e-4)  # fmt: skip
_Q1 = (1.0, 1.57799883256466749731e1, 4.53907635128879210584e1, 4.13172038254672030440e1, 1.50425385692907503408e1,
       2.50464946208309415979e0, -1.42182922854787788574e-1, -3.80806407691578277194e-2, -9.33259480895457427372e-4)  # fmt: skip


def with_random_numbers(model: ModelProto) -> ModelProto:
    """Return a generator's graph with random numbers inside.

    In place of ``noise`` (N, n) it has the inputs ``seed`` and ``first``, int64 scalars: row i of its output is the
    shower of number ``first + i`` of that seed.

    Args:
        model: of conditions (N, 1) each and ``noise``, at least of operator set :data:`OLDEST_OPSET`.
    """
    [noise] = [entry for entry in model.graph.input if entry.name == NOISE]
    others = [entry for entry in model.graph.input if entry.name != NOISE]
    n_features = noise.type.tensor_type.shape.dim[1].dim_value
    ops = _Operators("random")
    _rows(ops, others[0].name, n_features)
    scalars = [helper.make_tensor_value_info(name, TensorProto.INT64, []) for name in (SEED, FIRST)]
    graph = helper.make_graph(
        [*ops.nodes, *model.graph.node], model.graph.name, [*others, *scalars], list(model.graph.output),
        [*ops.constants, *model.graph.initializer], value_info=list(model.graph.value_info),
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)


class _Operators:
    """Nodes of a graph, written as calls, and the constants that they share with the nodes of loops within."""

    def __init__(self, name: str, constants: dict[Any, Any] | None = None) -> None:
        self._name, self.nodes = name, list[Any]()
        self._constants: dict[Any, Any] = {} if constants is None else constants

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its result."""
        name = f"{self._name}/{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=f"{name}/{operator}", **attributes))
        return name

    def within(self, name: str) -> _Operators:
        """Return what writes the nodes of a loop."""
        return _Operators(f"{self._name}/{name}", self._constants)

    @property
    def constants(self) -> list[Any]:
        """The constants of all nodes."""
        return list(self._constants.values())

    def constant(self, value: Any, dtype: type = np.int64) -> str:
        """Return the name of a constant."""
        array: NDArray[Any] = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"random/constant/{len(self._constants)}")
        return str(self._constants[key].name)

    def low(self, value: str, bits: int = 32) -> str:
        """Return the lower bits of a number."""
        return self("BitwiseAnd", value, self.constant(2**bits - 1))

    def high(self, value: str, bits: int = 32) -> str:
        """Return a number without its lower bits, shifted."""
        shift = self.constant(bits, np.uint64)
        whole = self("Cast", value, to=TensorProto.UINT64)
        return self("Cast", self("BitShift", whole, shift, direction="RIGHT"), to=TensorProto.INT64)

    def sum(self, *values: str) -> str:
        """Return a sum."""
        total = values[0]
        for value in values[1:]:
            total = self("Add", total, value)
        return total

    def polynomial(self, x: str, coefficients: Sequence[float]) -> str:
        """Return a polynomial, the highest power first."""
        total = self.constant(coefficients[0], np.float64)
        for i, coefficient in enumerate(coefficients[1:]):
            scaled = x if i == 0 and coefficients[0] == 1.0 else self("Mul", total, x)
            total = self("Add", scaled, self.constant(coefficient, np.float64))
        return total


def _rows(ops: _Operators, condition: str, n_features: int) -> None:
    """Make ``noise`` (N, n_features), some rows at a time; N is that of a condition (N, 1)."""
    n_blocks = -(-n_features // 8)
    most = max(1, BLOCKS_AT_ONCE // n_blocks)
    one = ops.constant(1)
    n = ops("Gather", ops("Shape", condition), ops.constant(0), axis=0)

    def pieces(whole: str, size: str) -> str:
        return ops("Div", ops.sum(whole, size, ops.constant(-1)), size)

    loops = ops("Max", pieces(n, ops.constant(most)), one)
    rows = ops("Max", pieces(n, loops), one)
    starts = ops("Add", ops("Mul", ops("Range", ops.constant(0), loops, one), rows), FIRST)
    keys = _keys(ops)
    seed = ops.low(SEED), ops.high(SEED)
    body = ops.within("rows")
    start = "random/rows/start"
    i = body("Add", body("Range", ops.constant(0), rows, one), start)
    i = body("Unsqueeze", i, ops.constant([0, 2]))  # (1, R, 1)
    numbers = _normal(body, _philox(body, (body.low(i), body.high(i)), seed, keys, n_blocks, n_features))
    graph = helper.make_graph(
        body.nodes, "rows", [helper.make_tensor_value_info(start, TensorProto.INT64, [])],
        [helper.make_tensor_value_info(numbers, TensorProto.FLOAT, None)],
    )  # fmt: skip
    stacked = ops("Scan", starts, body=graph, num_scan_inputs=1)  # (loops, R, n)
    flat = ops("Reshape", stacked, ops.constant([-1, n_features]))
    whole = ops("Unsqueeze", n, ops.constant([0]))
    wanted = ops("Slice", flat, ops.constant([0]), whole, ops.constant([0]))
    ops.nodes[-1].output[0] = NOISE
    assert wanted


def _keys(ops: _Operators) -> list[tuple[str, str]]:
    """Return the keys of the rounds after the first, as lower and upper halves (2, 1, 1) in the order of their words."""
    made = []
    for i in range(1, _ROUNDS):
        first, second = (i * step % 2**64 for step in _WEYL)
        low = ops("Add", ops.low(SEED), ops.constant(first & _HALF))
        high = ops.low(ops.sum(ops.high(SEED), ops.constant(first >> 32), ops.high(low)))
        halves = []
        for mine, its in ((ops.low(low), second & _HALF), (high, second >> 32)):
            words = [ops("Reshape", mine, ops.constant([1, 1, 1])), ops.constant([[[its]]])]
            halves.append(ops("Concat", *(words[::-1] if i % 2 else words), axis=0))
        made.append((halves[0], halves[1]))
    return made


def _philox(
    ops: _Operators,
    i: tuple[str, str],
    seed: tuple[str, str],
    keys: Sequence[tuple[str, str]],
    n_blocks: int,
    n_features: int,
) -> str:
    """Return the numbers of 32 bits (R, n_features) of showers i, (1, R, 1), from Philox4x64-10.

    A round maps the words (a, b, c, d) to (high(M1 c) ^ b ^ k0, low(M1 c), high(M0 a) ^ d ^ k1, low(M0 a)). Here a and c are
    one tensor (2, R, blocks), b and d another; they change places in each round, so that only one of the two has to be turned.
    """
    # The first round: a is the number of the block, b that of the shower, c and d are 0.
    product = [_M[0] * block for block in range(1, n_blocks + 1)]
    none = ops("Mul", i[0], ops.constant(0)), ops.constant(np.zeros((1, 1, n_blocks)))
    x, y = [], []
    for half, shift in enumerate((0, 32)):
        of_shower = ops("Add", ops("BitwiseXor", i[half], seed[half]), none[1])
        of_block, rest = (
            ops("Add", ops.constant([[[p >> s & _HALF for p in product]]]), none[0]) for s in (64 + shift, shift)
        )
        x.append(ops("Concat", of_shower, of_block, axis=0))
        y.append(ops("Concat", rest, ops("Mul", rest, ops.constant(0)), axis=0))
    for number, key in enumerate(keys):
        low, high = _product(ops, x, _M[:: 1 - 2 * (number % 2)])
        x = [ops("BitwiseXor", ops("BitwiseXor", mine, k), its) for mine, its, k in zip(high, y, key, strict=True)]
        y = [ops("Gather", half, ops.constant([1, 0]), axis=0) for half in low]
    halves = ops("Concat", *x, *y, axis=0)  # lower c, a, upper c, a, lower b, d, upper b, d
    words = ops("Gather", halves, ops.constant([1, 3, 4, 6, 0, 2, 5, 7]), axis=0)
    flat = ops("Reshape", ops("Transpose", words, perm=[1, 2, 0]), ops.constant([0, 8 * n_blocks]))
    if n_features == 8 * n_blocks:
        return flat
    return ops("Slice", flat, ops.constant([0]), ops.constant([n_features]), ops.constant([1]))


def _product(ops: _Operators, x: Sequence[str], by: Sequence[int]) -> tuple[list[str], list[str]]:
    """Return lower and upper word of the products of two words of 64 bits, all as lower and upper halves.

    With x in digits of 32 bits and the factors in digits of 16, no sum is as great as 2^50.
    """
    digits = [ops.constant([[[word >> 16 * j & 0xFFFF]] for word in by]) for j in range(4)]
    of_low, of_high = ([ops("Mul", half, digit) for digit in digits] for half in x)
    columns = [of_low[0], of_low[1], ops.sum(of_low[2], of_high[0]), ops.sum(of_low[3], of_high[1]), *of_high[2:]]
    halves, carried = [], list[str]()
    for even, odd in zip(columns[::2], columns[1::2], strict=True):
        half = ops.sum(even, ops("Mul", ops.low(odd, 16), ops.constant(2**16)), *carried)
        halves.append(ops.low(half))
        carried = [ops.high(half), ops.high(odd, 16)]
    halves.append(ops.sum(*carried))
    return halves[:2], halves[2:]


def _normal(ops: _Operators, x: str) -> str:
    """Return standard normal numbers, float32, of numbers x of 32 bits: the quantiles of (x + 1/2) / 2^32."""

    def value(number: float) -> str:
        return ops.constant(number, np.float64)

    u = ops("Mul", ops("Add", ops("Cast", x, to=TensorProto.DOUBLE), value(0.5)), value(2.0**-32))
    # Numbers of the upper half are those of the lower with the other sign. 1 - u is exact, too. (Not of x itself: ONNX
    # Runtime 1.31 takes the least of integers by their lower 32 bits.)
    p = ops("Min", u, ops("Sub", value(1.0), u))
    c = ops("Sub", p, value(0.5))
    square = ops("Mul", c, c)
    ratio = ops("Div", ops.polynomial(square, _P0), ops.polynomial(square, _Q0))
    inner = ops("Mul", ops("Add", c, ops("Mul", c, ops("Mul", square, ratio))), value(math.sqrt(2 * math.pi)))
    t = ops("Sqrt", ops("Mul", ops("Log", p), value(-2.0)))
    z = ops("Div", value(1.0), t)
    ratio = ops("Div", ops.polynomial(z, _P1), ops.polynomial(z, _Q1))
    outer = ops("Sub", ops("Mul", z, ops("Add", ratio, ops("Log", t))), t)
    lower = ops("Where", ops("Greater", p, value(math.exp(-2))), inner, outer)
    signed = ops("Where", ops("Less", u, value(0.5)), lower, ops("Neg", lower))
    return ops("Cast", signed, to=TensorProto.FLOAT)
