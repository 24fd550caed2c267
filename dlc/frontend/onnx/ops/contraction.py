"""MatMul, Gemm and Einsum."""
from __future__ import annotations

import re

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import require_broadcast, require_equal
from dlc.frontend.onnx.operands import require_fits, require_shape
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim
from dlc.ir.graph import Value
from dlc.ir.ops.contraction import Einsum, MatMul, labelled_extents
from dlc.ir.ops.movement import Transpose
from dlc.ir.ops.pointwise import Binary


@importer("MatMul")
def matmul(ctx: NodeContext) -> Value:
    """numpy.matmul."""
    return matrix_product(ctx, ctx.required(0), ctx.required(1))


def matrix_product(ctx: NodeContext, a: Value, b: Value) -> Value:
    """Add a product, checking extents that are symbolic when they are bound."""
    left, right = a.tensor.shape, b.tensor.shape
    if not left or not right:
        ctx.fail(f"a matrix product takes no scalars, but gets {a.type} and {b.type}")
    require_equal(ctx, left[-1], right[-2:][0], "the summed extents")
    require_broadcast(ctx, left[:-2], right[:-2])
    return ctx.add(MatMul(), a, b)


@importer("Gemm")
def gemm(ctx: NodeContext) -> Value:
    """alpha * a' b' + beta * c, with a' = a transposed when transA, c broadcast to the product.

    As in BLAS, beta = 0 means that c is not read. Only the parts that do something become nodes. Before opset
    7 c broadcasts on request only.
    """
    a, b, c = ctx.required(0), ctx.required(1), ctx.optional(2)
    for operand in (a, b):
        if operand.tensor.rank != 2:
            ctx.fail(f"%{operand.name} must be a matrix, but is {operand.type}")
    if ctx.int("transA", 0):
        a = ctx.add(Transpose((1, 0)), a)
    if ctx.int("transB", 0):
        b = ctx.add(Transpose((1, 0)), b)
    product = _scaled(ctx, matrix_product(ctx, a, b), ctx.float("alpha", 1.0), "alpha")
    beta = ctx.float("beta", 1.0)
    if c is None or beta == 0:
        return product
    if ctx.opset < 7 and not ctx.int("broadcast", 0):
        require_shape(ctx, c, product.tensor.shape, "C")
    require_fits(ctx, c, product, "C")
    return ctx.add(Binary("add"), product, _scaled(ctx, c, beta, "beta"))


def _scaled(ctx: NodeContext, value: Value, factor: float, what: str) -> Value:
    """`value` times `factor`; itself when that is 1."""
    if factor == 1:
        return value
    dtype = value.tensor.dtype
    if dtype.is_integer and not factor.is_integer():
        ctx.unsupported(f"{what} is {factor}, which {dtype} cannot hold")
    return ctx.add(Binary("mul"), value, ctx.const(np.asarray(factor).astype(dtype.numpy)))


@importer("Einsum", since=12)
def einsum(ctx: NodeContext) -> Value:
    """numpy.einsum; the equation is made explicit."""
    op = Einsum(_explicit(ctx, ctx.string("equation")))
    operands = [ctx.required(index) for index in range(len(ctx.operands))]
    result = ctx.add(op, *operands)
    extents: dict[str, Dim] = {}
    for term, operand in zip(op.terms[0], operands, strict=True):
        diagonal: dict[str, Dim] = {}
        for letter, extent in labelled_extents(term, operand.tensor.shape):
            have = diagonal.setdefault(letter, extent)
            require_equal(ctx, have, extent, f"extents of letter {letter!r} in one operand")
            require_broadcast(ctx, [extents.setdefault(letter, extent)], [extent])
    return result


def _explicit(ctx: NodeContext, equation: str) -> str:
    """The equation without spaces and with its result.

    An implicit result has the ellipsis and then, in alphabetic order, the letters that occur once.
    """
    text = equation.replace(" ", "")
    if re.fullmatch(r"[A-Za-z.,]*(->[A-Za-z.]*)?", text) is None:
        ctx.fail(f"{equation!r} is not an Einstein summation")
    if "->" in text:
        return text
    letters = [letter for letter in text if letter.isalpha()]
    once = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    return f"{text}->{'...' if '...' in text else ''}{once}"
