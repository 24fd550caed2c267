"""How contents go through operators: one rule a class of the graph IR, whatever ONNX operator it was."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from dlc.errors import Error
from dlc.frontend.onnx.content_elements import Arithmetic, Element, array_of, is_integer, zero
from dlc.frontend.onnx.context import DimArray
from dlc.ir.dims import Dim, Guard
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node
from dlc.ir.operator import Array, Operator
from dlc.ir.ops.indexing import Gather, GatherElements, GatherND, ScatterElements, ScatterND
from dlc.ir.ops.movement import Concat, DimTensor, Expand, Pad, Range, Reshape, Slice, Tile, Transpose, Trilu
from dlc.ir.ops.pointwise import Binary, Cast, Clip, Compare, Unary, Where
from dlc.ir.ops.reduction import Cumulative, Reduce
from dlc.ir.types import TensorType

_Contents: TypeAlias = "Sequence[DimArray | None]"
_Assume = Callable[[Guard], bool]


def is_transparent(op: Operator) -> bool:
    """Whether the elements of the first operand come out as they are, at positions that are known."""
    return isinstance(op, (Reshape, Transpose, Expand, Slice, Cast))


def apply_rule(node: Node, contents: _Contents, assume: _Assume) -> list[DimArray | None]:
    """The contents of the outputs of `node`, given those of its operands (None: nothing known, or absent).

    `assume` receives the guards under which the result holds, and tells whether they may be assumed.
    """
    unknown: list[DimArray | None] = [None] * len(node.outputs)
    if isinstance(node.op, DimTensor):
        return [array_of(list(node.op.dims), node.op.shape)]
    if not any(content is not None for content in contents):
        return unknown
    operand = node.inputs[0]
    if operand is not None and not isinstance(operand.type, TensorType):
        return unknown
    arithmetic = Arithmetic(operand.tensor.dtype if operand is not None else DType.I64, assume)
    result = _result(node, contents, arithmetic)
    return unknown if result is None else [result]


def _result(node: Node, contents: _Contents, arithmetic: Arithmetic) -> DimArray | None:
    """The content of the only output of `node`, or None."""
    match node.op:
        case Reshape() | Transpose() | Expand() | Tile() | Slice():
            return _moved(node, contents, data=(0,))
        case Trilu():
            return _moved(node, contents, data=(0,))
        case Gather() | GatherElements() | GatherND():
            return _moved(node, contents, data=(0,))
        case ScatterElements(reduction="none") | ScatterND(reduction="none"):
            return _moved(node, contents, data=(0, 2))
        case Concat() | Pad():
            return _moved(node, contents, data=range(len(node.inputs)))
        case Cast(to=to):
            return _mapped(lambda x: arithmetic.cast(x, to), contents)
        case Unary(fn=fn):
            return _mapped(lambda x: arithmetic.unary(fn, x), contents)
        case Binary(fn=fn):
            return _mapped(lambda x, y: arithmetic.binary(fn, x, y), contents)
        case Compare(fn=fn):
            return _mapped(lambda x, y: arithmetic.compare(fn, x, y), contents)
        case Clip(low=low, high=high):
            return _mapped(lambda x: _clipped(arithmetic, x, low, high), contents)
        case Where():
            return _mapped(_chosen, contents)
        case Reduce(fn=fn, axes=axes, keepdims=keepdims) if fn in _REDUCTIONS:
            return _reduced(fn, axes, keepdims, contents[0], arithmetic)
        case Cumulative(fn=fn, axis=axis, exclusive=exclusive, reverse=reverse):
            return _cumulated(fn, axis, exclusive, reverse, contents[0], arithmetic)
        case Range(extent=int(extent)):
            return _counted(extent, contents, arithmetic)
    return None


def _mapped(function: Callable[..., Element], contents: _Contents) -> DimArray | None:
    """`function` of the elements at each position after broadcasting."""
    if any(content is None for content in contents):
        return None
    arrays = np.broadcast_arrays(*[content for content in contents if content is not None])
    return array_of(
        [function(*elements) for elements in zip(*(array.flat for array in arrays))], arrays[0].shape
    )


def _chosen(condition: Element, x: Element, y: Element) -> Element:
    if isinstance(condition, bool):
        return x if condition else y
    return x if x is not None and type(x) is type(y) and x == y else None


def _clipped(
    arithmetic: Arithmetic, x: Element, low: float | int | None, high: float | int | None
) -> Element:
    if not is_integer(x):
        return None
    for fn, bound in (("max", low), ("min", high)):
        if bound is not None:
            x = arithmetic.binary(fn, x, int(bound)) if bound == int(bound) else None
    return x


#: Reduction -> the function of two elements, and its neutral element.
_REDUCTIONS = {"sum": ("add", 0), "prod": ("mul", 1), "max": ("max", None), "min": ("min", None)}


def _reduced(
    fn: str, axes: Sequence[int], keepdims: bool, content: DimArray | None, arithmetic: Arithmetic
) -> DimArray | None:
    if content is None or not arithmetic.dtype.is_integer:
        return None
    function, neutral = _REDUCTIONS[fn]
    if neutral is None and content.size == 0:
        return None
    kept = [axis for axis in range(content.ndim) if axis not in axes]
    rest = tuple(content.shape[axis] for axis in kept)
    length = math.prod(content.shape[axis] for axis in axes)
    lines = content.transpose(*kept, *axes).reshape(math.prod(rest), length)
    start: tuple[Element, ...] = () if neutral is None else (neutral,)
    elements = [
        functools.reduce(lambda x, y: arithmetic.binary(function, x, y), itertools.chain(start, line))
        for line in lines
    ]
    shape = [1 if axis in axes else extent for axis, extent in enumerate(content.shape)]
    return array_of(elements, tuple(shape) if keepdims else rest)


def _cumulated(
    fn: str, axis: int, exclusive: bool, reverse: bool, content: DimArray | None, arithmetic: Arithmetic
) -> DimArray | None:
    if content is None or not arithmetic.dtype.is_integer:
        return None
    function, neutral = _REDUCTIONS[fn]
    result = np.empty_like(content)
    source, target = np.moveaxis(content, axis, 0), np.moveaxis(result, axis, 0)
    order = range(len(source) - 1, -1, -1) if reverse else range(len(source))
    for position in np.ndindex(source.shape[1:]):
        running: Element = neutral
        for index in order:
            after = arithmetic.binary(function, running, source[(index, *position)])
            target[(index, *position)] = running if exclusive else after
            running = after
    return result


def _counted(extent: int, contents: _Contents, arithmetic: Arithmetic) -> DimArray | None:
    start, delta = contents
    if start is None or delta is None:
        return None
    first, step = start.item(), delta.item()
    if not is_integer(first) or not is_integer(step):
        return None
    return array_of([first + index * step for index in range(extent)], (extent,))


def _moved(node: Node, contents: _Contents, data: Sequence[int]) -> DimArray | None:
    """The content that a movement of the operands numbered in `data` gives.

    The operator itself moves numbers that stand for the elements; the other operands must be known numbers.
    """
    table: list[Element] = [zero(node.output.tensor.dtype)]
    operands: list[Array | None] = []
    for index, (value, content) in enumerate(zip(node.inputs, contents, strict=True)):
        if value is None:
            operands.append(None)
        elif index in data:
            if not value.tensor.is_static:
                return None
            shape = value.tensor.static_shape
            elements = [None] * math.prod(shape) if content is None else content.reshape(-1).tolist()
            operands.append(np.arange(len(table), len(table) + len(elements)).reshape(shape))
            table += elements
        elif content is None or not all(type(item) is int for item in content.reshape(-1).tolist()):
            return None
        else:
            operands.append(content.astype(np.int64))
    try:
        (numbers,) = node.op.evaluate(operands, _number)
    except (Error, ArithmeticError):
        return None
    return array_of([table[number] for number in numbers.flat], numbers.shape)


class _Symbolic(ArithmeticError):
    """An attribute of the operator has no number at compile time."""


def _number(dim: Dim) -> int:
    if not isinstance(dim, int):
        raise _Symbolic(str(dim))
    return dim
