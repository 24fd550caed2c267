"""Results whose extents only the run tells: symbols of the graph, bound from the results themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dlc.frontend.onnx.context import NodeContext
from dlc.ir.dims import Dim, Symbol
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.operator import Operator
from dlc.ir.types import OpenTensorType, TensorType


def add_open(
    ctx: NodeContext,
    element: OpenTensorType,
    operator: Callable[[TensorType | OpenTensorType], Operator],
    *operands: Value,
) -> Value:
    """Add an operator whose result is of the type `element`; `operator` makes it for the type of the result.

    Extents that are open become symbols. Where even the rank is, it is that which the model declares for the
    result; without that the result can only pass through sequences and optionals.
    """
    shape = element.shape
    if shape is None:
        rank = ctx.declared_rank(0)
        shape = None if rank is None else (None,) * rank
    if shape is None:
        return ctx.add(operator(element), *operands)
    type_, symbols = with_symbols(ctx, element.dtype, shape)
    value = ctx.add(operator(type_), *operands)
    bind_extents(ctx, symbols, value)
    return value


def with_symbols(
    ctx: NodeContext, dtype: DType, shape: Sequence[Dim | None]
) -> tuple[TensorType, dict[int, Symbol]]:
    """The type of the node's first result, with a new symbol for each open extent, and these by axis."""
    name = ctx.output_names[0] if ctx.output_names else ctx.op_type
    fresh = ctx.importer.symbolic.fresh
    symbols = {axis: fresh(f"{name}_{axis}", 0) for axis, dim in enumerate(shape) if dim is None}
    dims = [symbols[axis] if dim is None else dim for axis, dim in enumerate(shape)]
    return TensorType(dtype, tuple(dims)), symbols


def bind_extents(ctx: NodeContext, symbols: Mapping[int, Symbol], result: Value) -> None:
    """Let symbols, by axis, stand for the extents of a result that decides them."""
    for axis, symbol in symbols.items():
        ctx.importer.symbolic.extents[symbol] = (result, axis)
