"""Dot products of one row with many columns whose depth is contiguous: lanes along the depth.

For a few rows this beats packing the columns. One function serves all kernels of a module.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.cpu import types as t
from dlc.backends.cpu.access import register_type
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.module import Module
from dlc.ir.dtypes import DType

#: Columns whose sums grow together: enough to hide the latency of the additions on every target.
TOGETHER = 4
_VECTOR_BYTES = 64


@dataclasses.dataclass(frozen=True)
class DotArguments:
    """`columns` dot products: sums[c] = sum over k < depth of left[k] * right[c * stride + k].

    Sums are written in groups of 4, also those beyond `columns`, whose values mean nothing.
    """

    left: t.Value
    right: t.Value
    stride: t.Index
    depth: t.Index
    columns: t.Index
    sums: t.Value


def call_dots(b: FunctionBuilder, dtype: DType, arguments: DotArguments) -> None:
    """Call the function for elements of `dtype` (F32 or F64), writing it into the module at its first use."""
    name = f"gemm_dots_{dtype.text}"
    if b.module.defined(name) is None:
        _emit(b.module, name, register_type(dtype))
    a = arguments
    b.call(name, [a.left, a.right, a.stride, a.depth, a.columns, a.sums])


def _emit(module: Module, name: str, element: t.IRType) -> None:
    params = [
        ("left", t.ptr),
        ("right", t.ptr),
        ("stride", t.i64),
        ("depth", t.i64),
        ("columns", t.i64),
        ("sums", t.ptr),
    ]
    b = module.function(name, params, internal=True)
    left, right, stride, depth, columns, sums = b.params
    vector = t.vector(_VECTOR_BYTES // element.bytes, element)
    last = b.sub(columns, 1)
    whole = b.round_down(depth, vector.lanes)
    with b.loop(0, columns, TOGETHER, name="columns") as group:
        pointers = []
        for i in range(TOGETHER):
            column = b.smin(b.add(group.iv, i), last)
            pointers.append(b.offset(right, b.mul(column, stride), element))
        zeros = [b.const(vector, 0.0)] * TOGETHER
        with b.loop(0, whole, vector.lanes, carry=zeros, name="k") as loop:
            x = b.load(b.offset(left, loop.iv, element), vector)
            loop.next = [
                b.fma(b.load(b.offset(pointer, loop.iv, element), vector), x, total)
                for pointer, total in zip(pointers, loop.carried)
            ]
        with b.loop(whole, depth, vector.lanes, carry=loop.results, name="rest") as rest:
            mask = b.tail_mask(b.sub(depth, rest.iv), vector.lanes)
            x = b.masked_load(b.offset(left, rest.iv, element), mask, vector)
            rest.next = [
                b.fma(b.masked_load(b.offset(pointer, rest.iv, element), mask, vector), x, total)
                for pointer, total in zip(pointers, rest.carried)
            ]
        b.store(_collapse(b, rest.results), b.offset(sums, group.iv, element))


def _collapse(b: FunctionBuilder, totals: tuple[t.Value, ...]) -> t.Value:
    """The sums over the lanes of four vectors, as the four lanes of one; halves are added to halves."""
    lanes = totals[0].type.lanes
    pairs = [_fold_pair(b, totals[i], totals[i + 1], lanes) for i in (0, 2)]
    folded = _fold_pair(b, pairs[0], pairs[1], lanes // 2)
    length = lanes // TOGETHER
    while length > 1:
        half = length // 2
        first = [block * length + lane for block in range(TOGETHER) for lane in range(half)]
        second = [lane + half for lane in first]
        folded = b.fadd(b.shuffle(folded, None, first), b.shuffle(folded, None, second))
        length = half
    return folded


def _fold_pair(b: FunctionBuilder, x: t.Value, y: t.Value, length: int) -> t.Value:
    """Every run of `length` lanes of `x`, then of `y`, with its second half added to its first one."""
    half = length // 2
    first = [run + lane for run in range(0, 2 * x.type.lanes, length) for lane in range(half)]
    return b.fadd(b.shuffle(x, y, first), b.shuffle(x, y, [lane + half for lane in first]))
