"""The kernel of linear attention: one recurrence whose state is a matrix for each head.

The last axis of the state, that of the values, is shared by all stages: its numbers are independent, so that
a backend can walk the tokens with a column of the state for each lane.
"""

from __future__ import annotations

from dlc.ir.dims import Dim
from dlc.ir.graph import Node, Value
from dlc.ir.ops.linear_attention import LinearAttention
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, arithmetic_dtype, binary, cast, const, unary
from dlc.lowering.kernel import AxisKind, Monoid, State
from dlc.lowering.rules.registry import rule


@rule(LinearAttention)
def linear_attention(draft: Draft, node: Node) -> None:
    """Decay, update and read the state for each token; then store the state."""
    assert isinstance(node.op, LinearAttention)
    q, k, v = (draft.operand(index) for index in range(3))
    past, decay, beta = (draft.optional(index) for index in (3, 4, 5))
    batch, steps, heads, width = k.tensor.shape
    groups = LinearAttention.groups(q.tensor.shape[2], heads)
    dtype = arithmetic_dtype(q.tensor.dtype)
    step = draft.axis(steps, AxisKind.SEQUENTIAL)
    b, head = draft.axis(batch), draft.axis(heads)
    row, column = draft.axis(width), draft.axis(v.tensor.shape[3])
    depth = draft.axis(width)
    group = draft.axis(groups)
    points = [b, head, row, column]

    def load(value: Value, *index: Dim) -> e.Expr:
        return cast(draft.load(value, index), dtype)

    def gate(value: Value, *index: Dim) -> e.Expr:
        """An element of decay or beta, whose last extent may be 1."""
        whole = value.tensor.shape[-1] != 1
        return load(value, *index[:-1], index[-1] if whole else 0)

    factors = None if decay is None else _exponentials(draft, decay)
    state = draft.local(dtype, points)
    with draft.inner_body() as body:
        old: e.Expr = e.Read(dtype, state.name, tuple(points))
        if factors is not None:
            old = draft.map(binary("mul", old, gate(factors, b, step, head, row)), points)
        update = load(v, b, step, head, column)
        if beta is not None:
            assert isinstance(old, e.Read)
            at_depth = e.Read(dtype, old.local, (b, head, depth, column))
            product = binary("mul", at_depth, load(k, b, step, head, depth))
            known = draft.reduce(Monoid.SUM, [depth], product, [b, head, column])
            update = binary("mul", binary("sub", update, known), gate(beta, b, step, head))
            update = draft.map(update, [b, head, column])
        new = draft.map(binary("add", old, binary("mul", load(k, b, step, head, row), update)), points)
        query = load(q, b, step, head * groups + group, depth)
        product = binary("mul", query, e.Read(dtype, new.local, (b, head, depth, column)))
        read = draft.reduce(Monoid.SUM, [depth], product, [b, head, group, column])
        y = binary("mul", read, node.op.scale)
        draft.store(node.outputs[0], [b, head, group, column], y, [b, step, head * groups + group, column])
    start = const(0, dtype) if past is None else load(past, *points)
    draft.recur(step, [State(state, start, new)], body)
    draft.store(node.outputs[1], points, e.Read(dtype, state.name, tuple(points)))


def _exponentials(draft: Draft, decay: Value) -> Value:
    """exp(decay) of all tokens in memory: within the recurrence it would be computed for each column."""
    dtype = arithmetic_dtype(decay.tensor.dtype)
    factors = draft.temporary("factors", dtype, decay.tensor.shape)
    axes = draft.axes_of(decay.tensor.shape)
    draft.store(factors, axes, unary("exp", cast(draft.load(decay, axes), dtype)))
    return factors
