"""Operands of a matrix multiplication in the order in which the tiles read them.

A panel holds `width` columns; its rows are the numbers of the depth: element (k, c) at k * width + c. Columns
beyond the matrix are zero, or any number that is never stored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dlc.backends.cpu import arithmetic, types as t
from dlc.backends.cpu.access import register_type, storage_type
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.expressions import ExpressionEmitter
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.gemm_form import LANES, Packed, Plain
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.operator import Array
from dlc.lowering import expr as e
from dlc.lowering.expr import CastMode
from dlc.lowering.kernel import Axis


def pack_constant(packed: Packed, width: int, data: Array) -> Array:
    """A constant as panels: (batch, panels, depth, width), zero beyond the last column."""
    axes = (*packed.batch, *packed.reduce, *packed.columns)
    flat = np.ascontiguousarray(data).reshape(-1)
    shape = [_extent(axis) for axis, _ in axes]
    matrix = np.lib.stride_tricks.as_strided(
        flat[packed.base :], shape, [stride * flat.itemsize for _, stride in axes], writeable=False
    )
    batch, depth, columns = (_count(group) for group in (packed.batch, packed.reduce, packed.columns))
    panels = -(-columns // width)
    matrix = matrix.reshape(batch, depth, columns)
    result = np.zeros((batch, panels, depth, width), flat.dtype)
    for panel in range(panels):
        part = matrix[:, :, panel * width : (panel + 1) * width]
        result[:, panel, :, : part.shape[2]] = part
    return result


def _extent(axis: Axis) -> int:
    assert isinstance(axis.extent, int)
    return axis.extent


def _count(group: Sequence[tuple[Axis, int]]) -> int:
    count = 1
    for axis, _ in group:
        count *= _extent(axis)
    return count


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of the depth of one panel: `count` numbers of the depth from `start`, columns from `column`."""

    column: t.Value
    start: t.Value
    count: t.Value


class PanelPacker:
    """Writes code that packs blocks of an operand known at run time only."""

    def __init__(
        self, em: ExpressionEmitter, column: Axis, depth: Axis, width: int, element: t.IRType
    ) -> None:
        self.em = em
        self.b: FunctionBuilder = em.b
        self.column = column
        self.depth = depth
        self.width = width
        self.element = element

    def evaluate(self, value: e.Expr, block: Block, target: t.Value) -> None:
        """Pack by evaluating `value`, lanes along the columns."""
        b, em = self.b, self.em
        extent = self.column.extent
        left = b.sub(em.dim(extent), block.column)
        vectors_end = b.smin(left, self.width)
        with (
            b.loop(0, block.count, name="pack") as loop,
            b.loop(0, vectors_end, LANES, name="columns") as vector,
        ):
            em.forget()
            em.axes[self.depth.name] = b.value(b.add(block.start, loop.iv))
            em.axes[self.column.name] = b.value(b.add(block.column, vector.iv))
            em.vector_axis = self.column.symbol
            if not (isinstance(extent, int) and extent % LANES == 0):
                em.mask = b.tail_mask(b.sub(left, vector.iv), LANES)
            lanes = em.emit_lanes(value)
            em.mask = em.vector_axis = None
            place = b.add(b.mul(loop.iv, self.width), vector.iv)
            b.store(lanes, b.offset(target, place, self.element))
        em.forget()

    def transpose(self, source: t.Value, place: Plain, block: Block, target: t.Value, dtype: DType) -> None:
        """Pack a matrix whose depth is contiguous, as `dtype`; columns beyond it repeat the last one."""
        b, em = self.b, self.em
        stored = place.param.type.dtype
        name = f"gemm_transpose_{stored.text}_{dtype.text}_{self.width}"
        if b.module.defined(name) is None:
            _emit_transpose(b.module, name, stored, dtype, self.width)
        stride = em.dim(place.outer)
        start = b.add(em.dim(place.base), b.add(b.mul(block.column, stride), block.start))
        columns = b.smin(b.sub(em.dim(self.column.extent), block.column), self.width)
        b.call(name, [b.offset(source, start, storage_type(stored)), stride, columns, block.count, target])


def _emit_transpose(module: Module, name: str, stored: DType, dtype: DType, width: int) -> None:
    """A function that packs `columns` columns, `stride` elements apart, `count` numbers of the depth deep."""
    params = [("source", t.ptr), ("stride", t.i64), ("columns", t.i64), ("count", t.i64), ("target", t.ptr)]
    b = module.function(name, params, internal=True)
    source, stride, columns, count, target = b.params
    memory, element = storage_type(stored), register_type(dtype)
    wide = t.vector(LANES, memory)
    last = b.sub(columns, 1)
    whole = b.round_down(count, LANES)
    with b.loop(0, columns, LANES, name="columns") as group:
        pointers = [
            b.offset(source, b.mul(b.smin(b.add(group.iv, lane), last), stride), memory)
            for lane in range(LANES)
        ]

        def square(start: t.Index, mask: t.Value | None) -> None:
            rows = []
            for pointer in pointers:
                at = b.offset(pointer, start, memory)
                row = b.load(at, wide) if mask is None else b.masked_load(at, mask, wide)
                rows.append(arithmetic.convert(b, row, stored, dtype, CastMode.RNE))
            for lane, vector in enumerate(b.transpose16(rows)):
                place = b.add(b.mul(b.add(start, lane), width), group.iv)
                b.store(vector, b.offset(target, place, element))

        with b.loop(0, whole, LANES, name="depth") as depth:
            square(depth.iv, None)
        with b.loop(whole, count, LANES, name="rest") as rest:
            square(rest.iv, b.tail_mask(b.sub(count, rest.iv), LANES))


def evaluate_rows(
    em: ExpressionEmitter,
    value: e.Expr,
    row: Axis,
    depth: Axis,
    first: t.Value,
    rows: t.Value,
    stride: Dim,
    target: t.Value,
    element: t.IRType,
) -> None:
    """Evaluate rows of a left operand from `first` on into memory, `stride` elements apart, lanes along the
    depth."""
    b = em.b
    extent, step = em.dim(depth.extent), em.dim(stride)
    whole = b.round_down(extent, LANES)

    def lanes(at: t.Index, memory: t.Value, mask: t.Value | None) -> None:
        em.forget()
        em.axes[depth.name] = b.value(at)
        em.vector_axis, em.mask = depth.symbol, mask
        values = em.emit_lanes(value)
        em.vector_axis = em.mask = None
        b.store(values, b.offset(memory, at, element))

    with b.loop(0, rows, name="row") as loop:
        em.axes[row.name] = b.value(b.add(first, loop.iv))
        memory = b.offset(target, b.mul(loop.iv, step), element)
        with b.loop(0, whole, LANES, name="lanes") as vectors:
            lanes(vectors.iv, memory, None)
        with b.loop(whole, extent, LANES, name="tail") as tail:
            lanes(tail.iv, memory, b.tail_mask(b.sub(extent, tail.iv), LANES))
    em.forget()
