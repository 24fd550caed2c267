"""Chains that compute layer normalization back to LayerNorm."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.ir.builder import GraphBuilder
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node, Value
from dlc.ir.ops.normalization import LayerNorm, RMSNorm
from dlc.ir.ops.pointwise import Binary, Cast
from dlc.passes.canonical.casts import is_lossless
from dlc.passes.match import binary, made_by, operand, static_shape, uniform, used_once
from dlc.passes.moments import Mean, divided_by_root, inverse_root_of_shifted, mean, squared, trailing
from dlc.passes.pass_base import Numerics, Property
from dlc.passes.rewrite import Decline, Outcome, RewritePass, Rule, rule


@dataclasses.dataclass(frozen=True)
class RaiseLayerNorm(RewritePass):
    """(x - mean(x)) / sqrt(mean((x - mean(x)) ^ 2) + epsilon), scaled and shifted, is LayerNorm.

    The square may be a power or a product, the quotient a product with the reciprocal, the square root inside
    or outside of it; epsilon stands inside the root. Keras's form x * i + (bias - mean * i), with i the
    inverse root times the scale, counts too. Only the last axes are normalized; scale and bias may be any
    tensors that vary along those axes. A norm in a wider type between two casts needs no casts, since norms
    are computed in at least float32 anyway.

    Example:

        %m = Reduce(fn="mean", axes=(2,), keepdims=true)(%x)
        %d = Binary(fn="sub")(%x, %m)
        %q = Binary(fn="pow")(%d, %two)
        %v = Reduce(fn="mean", axes=(2,), keepdims=true)(%q)
        %e = Binary(fn="add")(%v, %epsilon)
        %r = Unary(fn="sqrt")(%e)
        %n = Binary(fn="div")(%d, %r)
        %s = Binary(fn="mul")(%n, %scale)
        %y = Binary(fn="add")(%s, %bias)

    becomes

        %y = LayerNorm(axis=2, epsilon=1e-05, statistics=false)(%x, %scale, %bias)
    """

    name: ClassVar[str] = "raise-layer-norm"
    numerics: ClassVar[Numerics] = Numerics.APPROXIMATES
    requires: ClassVar[frozenset[Property]] = frozenset({Property.CANONICAL})
    keeps: ClassVar[frozenset[Property]] = frozenset(Property)

    def rules(self) -> Sequence[Rule]:
        return normalize_centred, normalize_keras, norm_between_casts, scale_norm, shift_norm


@rule(Binary)
def normalize_centred(node: Node, builder: GraphBuilder) -> Outcome:
    """(x - mean) / sqrt(variance + epsilon) -> LayerNorm without scale and bias."""
    parts = divided_by_root(node.output)
    if parts is None:
        return None
    centred, spread, epsilon = parts
    x, variance = _centred(centred), mean(spread)
    if x is None or variance is None or squared(variance.x) is None:
        return None
    if not _same_difference(squared(variance.x), centred) or variance.axes != x.axes:
        return Decline("the variance is not that of the numerator")
    return layer_norm(builder, x, epsilon)


@rule(Binary)
def normalize_keras(node: Node, builder: GraphBuilder) -> Outcome:
    """x * i + (bias - mean * i), i = scale / sqrt(variance + epsilon) -> LayerNorm."""
    terms = binary(node.output, "add")
    if terms is None:
        return None
    for first, second in (terms, terms[::-1]):
        product, rest = binary(first, "mul"), binary(second, "sub")
        shift = None if rest is None else binary(rest[1], "mul")
        if product is None or rest is None or shift is None:
            continue
        for x, inverse in (product, product[::-1]):
            centre = next((a for a, b in (shift, shift[::-1]) if b is inverse), None)
            average = mean(centre)
            if average is None or average.x is not x:
                continue
            found = _inverse_and_scale(inverse)
            if found is None:
                continue
            scale, spread, epsilon = found
            variance = mean(spread)
            difference = None if variance is None else squared(variance.x)
            if variance is None or variance.axes != average.axes or _centred(difference) != average:
                return Decline("the variance is not that of the operand")
            plain = layer_norm(builder, average, epsilon, scale, rest[0])
            return plain
    return None


def _inverse_and_scale(value: Value) -> tuple[Value | None, Value, float] | None:
    """(scale, v, epsilon) of scale / sqrt(v + epsilon); the scale may be absent."""
    plain = inverse_root_of_shifted(value)
    if plain is not None:
        return (None, *plain)
    product = binary(value, "mul")
    for factor, other in () if product is None else (product, product[::-1]):
        inverse = inverse_root_of_shifted(factor)
        if inverse is not None:
            return (other, *inverse)
    return None


def _centred(value: Value | None) -> Mean | None:
    """x and the axes of x - mean(x)."""
    difference = binary(value, "sub")
    average = None if difference is None else mean(difference[1])
    return average if average is not None and difference is not None and average.x is difference[0] else None


def _same_difference(left: Value | None, right: Value) -> bool:
    """Whether two values are the same difference from a mean, possibly computed twice."""
    return left is right or (_centred(left) is not None and _centred(left) == _centred(right))


def layer_norm(builder: GraphBuilder, of: Mean, epsilon: float, scale: Value | None = None,
               bias: Value | None = None) -> Outcome:
    """LayerNorm of what was averaged; without a scale, by ones."""
    x = of.x.tensor
    axis = trailing(of.axes, x.rank)
    if axis is None:
        return Decline(f"axes {list(of.axes)} are not the last ones of a tensor of rank {x.rank}")
    if scale is None:
        shape = static_shape(x.shape[axis:])
        if shape is None:
            return Decline("the normalized extents are symbolic")
        scale = ones(builder, shape, x.dtype)
    for operand_ in (scale, bias):
        if operand_ is not None and operand_.tensor.rank > x.rank - axis:
            return Decline("scale or bias vary along axes that are not normalized")
    return builder.add(LayerNorm(axis, epsilon), of.x, scale, bias)


def ones(builder: GraphBuilder, shape: tuple[int, ...], dtype: DType) -> Value:
    """A constant of ones."""
    return builder.constant(np.ones(shape).astype(dtype.numpy), "ones")


@rule(Cast)
def norm_between_casts(node: Node, builder: GraphBuilder) -> Outcome:
    """Cast(Norm(Cast(x, wide), 1), type of x) -> Norm(x, 1)."""
    found = _norm(operand(node, 0))
    outer = None if found is None else made_by(operand(found[1], 0), Cast)
    if found is None or outer is None or not _is_plain(found[1]):
        return None
    op, norm = found
    x, axes = operand(outer[1], 0), operand(norm, 1).tensor.shape
    shape = static_shape(axes)
    if x.tensor.dtype is not node.output.tensor.dtype or shape is None:
        return None
    if not is_lossless(x.tensor.dtype, outer[0].to):
        return Decline(f"the norm is computed in {outer[0].to}, which is narrower than its operand")
    return builder.add(op, x, ones(builder, shape, x.tensor.dtype), *norm.inputs[2:])


def _norm(value: Value | None) -> tuple[LayerNorm | RMSNorm, Node] | None:
    """The norm that made `value`."""
    layer, root_mean_square = made_by(value, LayerNorm), made_by(value, RMSNorm)
    return root_mean_square if layer is None else layer


@rule(Binary)
def scale_norm(node: Node, builder: GraphBuilder) -> Outcome:
    """LayerNorm(x, 1) * scale and RMSNorm(x, 1) * scale -> with that scale."""
    factors = binary(node.output, "mul")
    for value, scale in () if factors is None else (factors, factors[::-1]):
        found = _norm(value)
        if found is None or not _is_plain(found[1]) or not used_once(builder.graph, value):
            continue
        op, norm = found
        if scale.tensor.rank > value.tensor.rank - op.axis or scale.tensor.dtype is not value.tensor.dtype:
            return Decline("the factor varies along axes that are not normalized")
        return builder.add(op, operand(norm, 0), scale, *norm.inputs[2:])
    return None


def _is_plain(node: Node) -> bool:
    """Whether a norm has a scale of ones, no bias and one result."""
    return uniform(node.inputs[1]) == 1 and len(node.outputs) == 1 and all(x is None for x in node.inputs[2:])


@rule(Binary)
def shift_norm(node: Node, builder: GraphBuilder) -> Outcome:
    """LayerNorm(x, scale) + bias -> LayerNorm(x, scale, bias)."""
    terms = binary(node.output, "add")
    for value, bias in () if terms is None else (terms, terms[::-1]):
        found = made_by(value, LayerNorm)
        if found is None or found[0].statistics or not used_once(builder.graph, value):
            continue
        op, norm = found
        if any(x is not None for x in norm.inputs[2:]):
            continue
        if bias.tensor.rank > value.tensor.rank - op.axis or not _is_parameter(bias):
            continue
        return builder.add(op, operand(norm, 0), operand(norm, 1), bias)
    return None


def _is_parameter(value: Value) -> bool:
    """Whether a value is known before the activations are: a constant or a graph input."""
    return value.is_constant or value.producer is None
