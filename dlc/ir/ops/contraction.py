"""Matrix product and Einstein summation, in floating point and in integers.

Floats narrower than 32 bits are summed in float32 and rounded once. Integers are summed modulo 2**bits of the
result: 8-bit operands (signed and unsigned may meet) give i32, wider ones their own type.
"""
from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from dlc.ir import dims
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType, Kind, from_numpy
from dlc.ir.operator import (
    Array,
    EvaluateDim,
    InferenceError,
    Operator,
    OperatorClass,
    compute_dtype,
    tensor,
)
from dlc.ir.ops.checks import require_equal
from dlc.ir.ops.common import broadcast_shapes, given
from dlc.ir.types import TensorType, Type


def contraction_dtype(left: DType, right: DType) -> DType:
    """Element type of a sum of products; InferenceError when the operands' types do not go together."""
    if left.is_integer and right.is_integer and left.bits == right.bits == 8:
        return DType.I32
    if left is not right:
        raise InferenceError(f"operands must have one element type, but have {left} and {right}")
    if left.kind not in (Kind.FLOAT, Kind.SIGNED, Kind.UNSIGNED):
        raise InferenceError(f"{left} cannot be multiplied and summed")
    return left


def carrier_dtype(left: Array, right: Array, terms: int) -> np.dtype[Any]:
    """The NumPy type in which `terms` products are summed without changing the result.

    Integers go through float64 (and so through BLAS) when every partial sum is exact there, and otherwise
    through 64-bit integers, whose wrapping agrees modulo any smaller power of two.
    """
    if not np.issubdtype(left.dtype, np.integer):
        return compute_dtype(left.dtype)
    if not left.size or not right.size:
        return np.dtype(np.int64)
    bound = max(abs(int(left.min())), int(left.max())) * max(abs(int(right.min())), int(right.max())) * terms
    if bound < 1 << 53:
        return np.dtype(np.float64)
    return np.dtype(np.uint64 if left.dtype == np.uint64 else np.int64)


def round_result(sums: Array, dtype: DType) -> Array:
    """`sums` in the result's type; integers wrap."""
    if dtype.is_integer and sums.dtype.kind == "f":
        sums = sums.astype(np.int64)
    return np.asarray(sums).astype(dtype.numpy, copy=False)


def result_dtype(left: Array, right: Array) -> DType:
    """`contraction_dtype` of two arrays."""
    return contraction_dtype(from_numpy(left.dtype), from_numpy(right.dtype))


@dataclasses.dataclass(frozen=True)
class MatMul(Operator):
    """`numpy.matmul`: a[..., M, K] times b[..., K, N], leading axes broadcast, vectors promoted."""

    kind: ClassVar[OperatorClass] = OperatorClass.CONTRACTION

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        a, b = tensor(inputs[0], "the left operand"), tensor(inputs[1], "the right operand")
        if not a.rank or not b.rank:
            raise InferenceError("a matrix product takes no scalars")
        inner = b.shape[-2] if b.rank > 1 else b.shape[0]
        require_equal(a.shape[-1], inner, "the summed extents")
        batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
        rows = a.shape[-2:-1]
        columns = b.shape[-1:] if b.rank > 1 else ()
        return (TensorType(contraction_dtype(a.dtype, b.dtype), (*batch, *rows, *columns)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        a, b = (given(operand) for operand in inputs)
        carrier = carrier_dtype(a, b, a.shape[-1])
        sums = np.matmul(a.astype(carrier, copy=False), b.astype(carrier, copy=False))
        return (round_result(np.asarray(sums), result_dtype(a, b)),)

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        return tensor(outputs[0], "y").elements * tensor(inputs[0], "a").shape[-1] * 2


@dataclasses.dataclass(frozen=True)
class Einsum(Operator):
    """Einstein summation. `equation` is explicit and without spaces: "bij,bjk->bik", "...ij,...jk->...ik"."""

    equation: str

    kind: ClassVar[OperatorClass] = OperatorClass.CONTRACTION

    @property
    def terms(self) -> tuple[tuple[str, ...], str]:
        """Subscripts of the operands and of the result; InferenceError when the equation is malformed."""
        match = re.fullmatch(r"([A-Za-z.,]*)->([A-Za-z.]*)", self.equation)
        if match is None:
            raise InferenceError(f"{self.equation!r} is not an explicit Einstein summation")
        return tuple(match[1].split(",")), match[2]

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        operands = [tensor(operand, f"operand {index}") for index, operand in enumerate(inputs)]
        terms, result = self.terms
        if len(terms) != len(operands) or not operands:
            raise InferenceError(f"{self.equation!r} is for {len(terms)} operands, not {len(operands)}")
        extents: dict[str, Dim] = {}
        ellipsis: tuple[Dim, ...] = ()
        for term, operand in zip(terms, operands, strict=True):
            if operand.dtype is not operands[0].dtype or operand.dtype.kind in (Kind.BOOL, Kind.STRING):
                raise InferenceError(f"operands must be numbers of one type, but one is {operand.dtype}")
            covered = _bind_subscripts(term, operand.shape, extents)
            ellipsis = broadcast_shapes(ellipsis, covered)
        shape: list[Dim] = []
        for letter in result.replace("...", "."):
            if letter == ".":
                shape.extend(ellipsis)
            elif letter in extents:
                shape.append(extents[letter])
            else:
                raise InferenceError(f"no operand of {self.equation!r} has subscript {letter!r}")
        return (TensorType(operands[0].dtype, tuple(shape)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        operands = [given(operand) for operand in inputs]
        carrier = compute_dtype(operands[0].dtype)
        wide = [operand.astype(carrier, copy=False) for operand in operands]
        result = np.einsum(self.equation, *wide, optimize=len(wide) > 1 and carrier.kind == "f")
        return (np.asarray(result).astype(operands[0].dtype, copy=False),)

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        terms, result = self.terms
        extents: dict[str, Dim] = {}
        for term, operand in zip(terms, inputs, strict=True):
            _bind_subscripts(term, tensor(operand, "operand").shape, extents)
        summed = dims.product([extent for letter, extent in extents.items() if letter not in result])
        return tensor(outputs[0], "y").elements * summed * len(terms)


def _bind_subscripts(term: str, shape: tuple[Dim, ...], extents: dict[str, Dim]) -> tuple[Dim, ...]:
    """Note the extent of each letter of `term` in `extents`; returns the axes that the ellipsis covers."""
    head, dots, tail = term.partition("...")
    if (len(head) + len(tail) > len(shape)) or (not dots and len(head) != len(shape)) or "." in head + tail:
        raise InferenceError(f"subscripts {term!r} do not fit a tensor of rank {len(shape)}")
    for letter, extent in labelled_extents(term, shape):
        (extents[letter],) = broadcast_shapes([extents.get(letter, extent)], [extent])
    return shape[len(head):len(shape) - len(tail)]


def labelled_extents(term: str, shape: Sequence[Dim]) -> list[tuple[str, Dim]]:
    """Letters of subscripts that fit `shape`, with their extents; the ellipsis is left out."""
    head, _, tail = term.partition("...")
    return [*zip(head, shape, strict=False), *zip(tail, shape[len(shape) - len(tail):], strict=True)]


