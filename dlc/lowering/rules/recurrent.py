"""Kernels of LSTM, GRU and simple RNN: the input's product for all steps, then a recurrence over time.

Both directions of a bidirectional layer are one recurrence with an axis for the direction, as long as their
activations agree; else each has a recurrence of its own. All gates of a step are one contraction of the
hidden state, the cell's formulas are maps over the units.
"""

from __future__ import annotations

from collections.abc import Callable

from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node, Value
from dlc.ir.ops.recurrent import GRU, LSTM, RNN
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, arithmetic_dtype, binary, cast, const, unary
from dlc.lowering.expr import InRange
from dlc.lowering.kernel import AxisKind, Contraction, State
from dlc.lowering.rules.formulas import clip, compare, expm1_times, hard_sigmoid, relu, select, softsign
from dlc.lowering.rules.registry import rule

Cell = LSTM | GRU | RNN

#: The expressions of `dlc.ir.ops.recurrent.ACTIVATIONS`, by name, of (x, alpha, beta).
ACTIVATIONS: dict[str, Callable[[e.Expr, float, float], e.Expr]] = {
    "affine": lambda x, alpha, beta: binary("add", binary("mul", x, alpha), beta),
    "elu": lambda x, alpha, beta: select(compare("lt", x, 0), expm1_times(x, alpha), x),
    "hard_sigmoid": hard_sigmoid,
    "leaky_relu": lambda x, alpha, beta: select(compare("lt", x, 0), binary("mul", x, alpha), x),
    "relu": lambda x, alpha, beta: relu(x),
    "scaled_tanh": lambda x, alpha, beta: binary("mul", unary("tanh", binary("mul", x, beta)), alpha),
    "sigmoid": lambda x, alpha, beta: unary("sigmoid", x),
    "softplus": lambda x, alpha, beta: unary("softplus", x),
    "softsign": lambda x, alpha, beta: softsign(x),
    "tanh": lambda x, alpha, beta: unary("tanh", x),
    "thresholded_relu": lambda x, alpha, beta: select(compare("ge", x, alpha), x, const(0, x.dtype)),
}


@rule(LSTM, GRU, RNN)
def recurrent(draft: Draft, node: Node) -> None:
    """One projection for all directions, then the recurrences."""
    assert isinstance(node.op, Cell)
    op = node.op
    projection = _projection(draft, op)
    if op.directions == 1 or _alike(op):
        _Layer(draft, op, projection, None if op.directions == 2 else 0).recur()
    else:
        for direction in range(2):
            _Layer(draft, op, projection, direction).recur()


def _alike(op: Cell) -> bool:
    """Whether both directions of a bidirectional layer have the same activations."""
    half = op.functions
    return all(each[:half] == each[half:] for each in (op.activations, op.alphas, op.betas))


def _linear_before_reset(op: Cell) -> bool:
    return isinstance(op, GRU) and op.linear_before_reset


def _projection(draft: Draft, op: Cell) -> Value:
    """x w^T and the biases for all steps, [T, B, D, G * H].

    The recurrent bias is left out where a gate uses its recurrent product apart from the input's.
    """
    x, w, b = draft.operand(0), draft.operand(1), draft.optional(3)
    dtype = arithmetic_dtype(x.tensor.dtype)
    steps, batch, width = x.tensor.shape
    if isinstance(w.tensor.shape[2], int):
        width = w.tensor.shape[2]
    rows = op.gates * op.hidden
    result = draft.temporary("projection", dtype, (steps, batch, op.directions, rows))
    outer = step, sequence, direction, row = draft.axes_of(result.tensor.shape)
    k = draft.axis(width, AxisKind.REDUCE)
    spec = Contraction((), (step.name, sequence.name), (direction.name, row.name), (k.name,))
    left = draft.load_arithmetic(x, [step, sequence, k])
    right = cast(draft.load(w, [direction, row, k]), dtype)
    total: e.Expr = draft.contract(spec, left, right, outer)
    if b is not None:
        total = binary("add", total, cast(draft.load(b, [direction, row]), dtype))
        apart = _linear_before_reset(op)
        mask = (InRange(row, 0, 2 * op.hidden),) if apart else ()
        zero = const(0, b.tensor.dtype) if apart else None
        total = binary("add", total, cast(draft.load(b, [direction, row + rows], mask, zero), dtype))
    draft.store(result, outer, total)
    return result


class _Layer:
    """The recurrence of one direction, or of both (`direction` None: an axis)."""

    def __init__(self, draft: Draft, op: Cell, projection: Value, direction: int | None) -> None:
        self.draft = draft
        self.op = op
        self.projection = projection
        self.functions = (direction or 0) * op.functions
        steps, batch, _ = draft.operand(0).tensor.shape
        self.dtype = projection.tensor.dtype
        self.step = draft.axis(steps, AxisKind.SEQUENTIAL)
        self.directions = [draft.axis(2)] if direction is None else []
        self.direction: Dim = self.directions[0] if self.directions else direction or 0
        self.batch = draft.axis(batch)
        self.unit = draft.axis(op.hidden)
        self.points = [*self.directions, self.batch, self.unit]
        self.reverse = direction is not None and op.reverses(direction)
        # With both directions in one recurrence the second one counts time backwards.
        self.time: Dim = self.step
        if self.directions:
            self.time = self.step + self.direction * (steps - 1 - 2 * self.step)

    def recur(self) -> None:
        """Append the recurrence and the stores of the last states."""
        draft, op = self.draft, self.op
        hidden = draft.local(self.dtype, self.points)
        initial = [draft.optional(5)]
        locals_ = [hidden]
        if isinstance(op, LSTM):
            locals_.append(draft.local(self.dtype, self.points))
            initial.append(draft.optional(6))
        old = [e.Read(self.dtype, local.name, tuple(self.points)) for local in locals_]
        with draft.inner_body() as body:
            new = self._cell(old)
            active = self._active()
            y = new[0] if active is None else select(active, new[0], const(0, self.dtype))
            draft.store(draft.node.outputs[0], self.points, y, [self.time, *self._at()])
        states = [
            State(local, self._initial(value), after if active is None else select(active, after, before))
            for local, value, after, before in zip(locals_, initial, new, old, strict=True)
        ]
        draft.recur(self.step, states, body, self.reverse)
        for output, last in zip(draft.node.outputs[1:], old, strict=True):
            draft.store(output, self.points, last, self._at())

    def _at(self) -> list[Dim]:
        """The index of a unit in a tensor [D, B, H]."""
        return [self.direction, self.batch, self.unit]

    def _initial(self, value: Value | None) -> e.Expr:
        if value is None:
            return const(0, self.dtype)
        return cast(self.draft.load(value, self._at()), self.dtype)

    def _active(self) -> e.Expr | None:
        """Whether the step lies within the sequence; None where all sequences have all steps."""
        lengths = self.draft.optional(4)
        if lengths is None:
            return None
        length = cast(self.draft.load(lengths, [self.batch]), DType.I64, e.CastMode.WRAP)
        return compare("lt", e.Iota(DType.I64, self.time), length)

    # --- parts of a step

    def _projected(self, gate: int) -> e.Expr:
        """The input's part of a gate."""
        index = [self.time, self.batch, self.direction, self.unit + gate * self.op.hidden]
        return self.draft.load(self.projection, index)

    def _recurrent(self, state: e.Read, first: int, count: int) -> list[e.Expr]:
        """state r^T for `count` gates from `first` on."""
        draft, hidden = self.draft, self.op.hidden
        gate, k = draft.axis(count), draft.axis(hidden, AxisKind.REDUCE)
        before = [*self.directions, self.batch]
        left = e.Read(self.dtype, state.local, (*before, k))
        row = (gate + first) * hidden + self.unit
        right = cast(draft.load(draft.operand(2), [self.direction, row, k]), self.dtype)
        spec = Contraction(
            tuple(axis.name for axis in self.directions),
            (self.batch.name,),
            (gate.name, self.unit.name),
            (k.name,),
        )
        product = draft.contract(spec, left, right, [*before, gate, self.unit])
        return [e.Read(self.dtype, product.local, (*before, n, self.unit)) for n in range(count)]

    def _activate(self, index: int, x: e.Expr, clipped: bool = True) -> e.Expr:
        """Activation number `index` of the cell, of `x` after clipping."""
        op, at = self.op, self.functions + index
        if clipped and op.clip is not None:
            x = clip(x, -op.clip, op.clip)
        return ACTIVATIONS[op.activations[at]](x, op.alphas[at], op.betas[at])

    def _cell(self, old: list[e.Read]) -> list[e.Expr]:
        """The states after a step, as if it counted for every sequence."""
        match self.op:
            case LSTM():
                return self._lstm(self.op, *old)
            case GRU():
                return self._gru(self.op, *old)
            case RNN():
                (product,) = self._recurrent(old[0], 0, 1)
                x = binary("add", product, self._projected(0))
                return [self.draft.map(self._activate(0, x), self.points)]

    def _lstm(self, op: LSTM, hidden: e.Read, cell: e.Read) -> list[e.Expr]:
        draft = self.draft
        products = self._recurrent(hidden, 0, 4)
        i, o, f, c = (binary("add", x, self._projected(gate)) for gate, x in enumerate(products))
        peepholes = draft.optional(7)

        def peep(x: e.Expr, part: int, state: e.Expr) -> e.Expr:
            if peepholes is None:
                return x
            weight = draft.load(peepholes, [self.direction, self.unit + part * op.hidden])
            return binary("add", x, binary("mul", cast(weight, self.dtype), state))

        i = draft.map(self._activate(0, peep(i, 0, cell)), self.points)
        f = binary("sub", const(1, self.dtype), i) if op.input_forget else self._activate(0, peep(f, 2, cell))
        candidate = binary("mul", i, self._activate(1, c))
        new = draft.map(binary("add", binary("mul", f, cell), candidate), self.points)
        o = self._activate(0, peep(o, 1, new))
        output = binary("mul", o, self._activate(2, new, clipped=False))
        return [draft.map(output, self.points), new]

    def _gru(self, op: GRU, hidden: e.Read) -> list[e.Expr]:
        draft, dtype = self.draft, self.dtype
        products = self._recurrent(hidden, 0, 3 if op.linear_before_reset else 2)
        z, r = (
            draft.map(self._activate(0, binary("add", x, self._projected(gate))), self.points)
            for gate, x in enumerate(products[:2])
        )
        if op.linear_before_reset:
            inner = products[2]
            if (bias := draft.optional(3)) is not None:
                index = [self.direction, self.unit + 5 * op.hidden]
                inner = binary("add", inner, cast(draft.load(bias, index), dtype))
            inner = binary("mul", r, inner)
        else:
            (inner,) = self._recurrent(draft.map(binary("mul", r, hidden), self.points), 2, 1)
        candidate = draft.map(self._activate(1, binary("add", inner, self._projected(2))), self.points)
        kept = binary("mul", z, hidden)
        rest = binary("mul", binary("sub", const(1, dtype), z), candidate)
        return [draft.map(binary("add", rest, kept), self.points)]
