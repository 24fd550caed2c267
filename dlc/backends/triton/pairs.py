"""Complex numbers of 128 bits, which are only moved, as two words each: a kernel over words instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from dlc.backends.triton.elements import NotInTriton
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.types import TensorType
from dlc.lowering import expr as e
from dlc.lowering.kernel import Kernel, LocalTensor, Map, Param, Stage, Store


def as_words(kernel: Kernel) -> Kernel:
    """`kernel` with a last axis of two i64 in place of each c128.

    Parameters keep their memory. Raises NotInTriton where more is done with such numbers than moving them.
    """
    if all(param.type.dtype is not DType.C128 for param in kernel.params):
        return kernel
    params = tuple(_param(param) for param in kernel.params)
    body = tuple(half for stage in kernel.body for half in _stage(stage))
    return dataclasses.replace(kernel, params=params, body=body)


def _param(param: Param) -> Param:
    if param.type.dtype is not DType.C128:
        return param
    if param.type.layout is not None:
        raise NotInTriton("Triton has no elements of type c128 in blocked layouts")
    strides = param.strides and (*(2 * stride for stride in param.strides), 1)
    words = TensorType(DType.I64, (*param.type.shape, 2))
    return dataclasses.replace(param, type=words, strides=strides)


def _stage(stage: Stage) -> Iterator[Stage]:
    """The stage, or one for each of the two words."""
    match stage:
        case Map(LocalTensor(name, DType.C128, axes), value):
            for word in range(2):
                yield Map(LocalTensor(_word_name(name, word), DType.I64, axes), _word(value, word))
        case Store() if stage.value.dtype is DType.C128:
            for word in range(2):
                index = (*stage.index, word)
                yield dataclasses.replace(stage, index=index, value=_word(stage.value, word))
        case Map() | Store():
            yield stage
        case _:
            raise NotInTriton(f"a {type(stage).__name__} has elements of type c128 beside it")


def _word_name(local: str, word: int) -> str:
    return f"{local}_{('real', 'imaginary')[word]}"


def _word(value: e.Expr, word: int) -> e.Expr:
    """The real or imaginary part of a value, as bits."""

    def leaf(node: e.Expr) -> e.Expr | None:
        if node.dtype is not DType.C128:
            return None
        match node:
            case e.Const(_, number):
                part = np.array([number], np.complex128).view(np.int64)[word]
                return e.Const(DType.I64, int(part))
            case e.Load():
                index: tuple[Dim | e.Expr, ...] = (*node.index, word)
                return dataclasses.replace(node, dtype=DType.I64, index=index)
            case e.Read():
                return dataclasses.replace(node, dtype=DType.I64, local=_word_name(node.local, word))
            case e.Select():
                return dataclasses.replace(node, dtype=DType.I64)
        raise NotInTriton(f"Triton has no {type(node).__name__} of c128")

    return e.rewrite(value, leaf)
