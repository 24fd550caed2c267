"""Kernels of linear algebra."""

from __future__ import annotations

from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node
from dlc.ir.ops.linear_algebra import Det, Inverse
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, binary, const, unary
from dlc.lowering.kernel import AxisKind, Monoid, State
from dlc.lowering.rules.formulas import compare, select
from dlc.lowering.rules.registry import rule


@rule(Det)
def determinant(draft: Draft, node: Node) -> None:
    """Gaussian elimination with partial pivoting: the product of the pivots, with the sign of the exchanges.

    Golub and Van Loan, Matrix Computations, algorithm 3.4.1. Rows are not exchanged in place: the step's row
    takes the pivot's, which becomes the row that it displaced.
    """
    assert isinstance(node.op, Det)
    x, target = draft.operand(0), node.outputs[0]
    extent = x.tensor.shape[-1]
    batch = draft.axes_of(target.tensor.shape)
    i, j = draft.axis(extent), draft.axis(extent)
    step = draft.axis(extent, AxisKind.SEQUENTIAL)
    start = draft.load_arithmetic(x, [*batch, i, j])
    dtype = start.dtype
    matrix, result = draft.local(dtype, [*batch, i, j]), draft.local(dtype, batch)

    def entry(row: Dim, column: Dim) -> e.Expr:
        return e.Read(dtype, matrix.name, (*batch, row, column))

    zero, number = const(0, dtype), e.Iota(DType.I64, i)
    with draft.inner_body() as body:
        candidate = compare("ge", number, e.Iota(DType.I64, step))
        size = select(candidate, unary("abs", entry(i, step)), const(-1, dtype))
        _, pivot_row = draft.reduce_all(Monoid.ARGMAX, [i], (size, number), batch)
        chosen = compare("eq", number, pivot_row)
        # The pivot's row, as a sum with one term: a local cannot be read at an index from data.
        row = draft.reduce(Monoid.SUM, [i], select(chosen, entry(i, j), zero), [*batch, j])
        pivot = draft.reduce(Monoid.SUM, [i], select(chosen, entry(i, step), zero), batch)
    moved = select(chosen, entry(step, j), entry(i, j))
    multiple = select(chosen, entry(step, step), entry(i, step))
    factor = select(compare("eq", pivot, 0), zero, binary("div", multiple, pivot))
    following = binary("sub", moved, binary("mul", factor, row))
    exchanged = compare("ne", pivot_row, e.Iota(DType.I64, step))
    signed = select(exchanged, unary("neg", pivot), pivot)
    before = e.Read(dtype, result.name, tuple(batch))
    states = (
        State(matrix, start, following),
        State(result, const(1, dtype), binary("mul", before, signed)),
    )
    draft.recur(step, states, body)
    draft.store(target, batch, before)


@rule(Inverse)
def inverse(draft: Draft, node: Node) -> None:
    """Gauss-Jordan elimination with partial pivoting on the matrix beside the identity, [M, 2 M].

    A step makes the pivot's column that of the identity; in the end the right half is the inverse.
    """
    x, target = draft.operand(0), node.outputs[0]
    extent = x.tensor.shape[-1]
    batch = draft.axes_of(target.tensor.shape[:-2])
    i, j = draft.axis(extent), draft.axis(2 * extent)
    step = draft.axis(extent, AxisKind.SEQUENTIAL)
    inside = (e.InRange(j, 0, extent),)
    left = draft.load_arithmetic(x, [*batch, i, j], inside, const(0, x.tensor.dtype))
    dtype = left.dtype
    diagonal = compare("eq", e.Iota(DType.I64, j), e.Iota(DType.I64, i + extent))
    start = select(diagonal, const(1, dtype), left)
    matrix = draft.local(dtype, [*batch, i, j])

    def entry(row: Dim, column: Dim) -> e.Expr:
        return e.Read(dtype, matrix.name, (*batch, row, column))

    zero, number = const(0, dtype), e.Iota(DType.I64, i)
    at_step = compare("eq", number, e.Iota(DType.I64, step))
    with draft.inner_body() as body:
        candidate = compare("ge", number, e.Iota(DType.I64, step))
        size = select(candidate, unary("abs", entry(i, step)), const(-1, dtype))
        _, pivot_row = draft.reduce_all(Monoid.ARGMAX, [i], (size, number), batch)
        chosen = compare("eq", number, pivot_row)
        # The pivot's row, as a sum with one term: a local cannot be read at an index from data.
        row = draft.reduce(Monoid.SUM, [i], select(chosen, entry(i, j), zero), [*batch, j])
        pivot = draft.reduce(Monoid.SUM, [i], select(chosen, entry(i, step), zero), batch)
    scaled = binary("div", row, pivot)
    moved = select(chosen, entry(step, j), entry(i, j))
    multiple = select(chosen, entry(step, step), entry(i, step))
    following = select(at_step, scaled, binary("sub", moved, binary("mul", multiple, scaled)))
    draft.recur(step, (State(matrix, start, following),), body)
    column = draft.axis(extent)
    draft.store(target, [*batch, i, column], entry(i, column + extent))
