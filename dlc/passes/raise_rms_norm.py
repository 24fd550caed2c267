"""Chains that compute root-mean-square normalization back to RMSNorm."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from dlc.ir.builder import GraphBuilder
from dlc.ir.graph import Node
from dlc.ir.ops.normalization import RMSNorm
from dlc.ir.ops.pointwise import Binary
from dlc.passes.match import static_shape
from dlc.passes.moments import divided_by_root, mean, squared, trailing
from dlc.passes.pass_base import Numerics, Property
from dlc.passes.raise_layer_norm import norm_between_casts, ones, scale_norm
from dlc.passes.rewrite import Decline, Outcome, RewritePass, Rule, rule


@dataclasses.dataclass(frozen=True)
class RaiseRMSNorm(RewritePass):
    """x / sqrt(mean(x ^ 2) + epsilon), scaled, is RMSNorm (arXiv:1910.07467).

    Squares and inverse roots count in every form that RaiseLayerNorm knows; epsilon stands inside the root.

    Example:

        %q = Binary(fn="pow")(%x, %two)
        %v = Reduce(fn="mean", axes=(2,), keepdims=true)(%q)
        %e = Binary(fn="add")(%v, %epsilon)
        %r = Unary(fn="sqrt")(%e)
        %i = Unary(fn="reciprocal")(%r)
        %n = Binary(fn="mul")(%x, %i)
        %y = Binary(fn="mul")(%n, %scale)

    becomes

        %y = RMSNorm(axis=2, epsilon=1e-05)(%x, %scale)
    """

    name: ClassVar[str] = "raise-rms-norm"
    numerics: ClassVar[Numerics] = Numerics.APPROXIMATES
    requires: ClassVar[frozenset[Property]] = frozenset({Property.CANONICAL})
    keeps: ClassVar[frozenset[Property]] = frozenset(Property)

    def rules(self) -> Sequence[Rule]:
        return normalize_by_root, norm_between_casts, scale_norm


@rule(Binary)
def normalize_by_root(node: Node, builder: GraphBuilder) -> Outcome:
    """x / sqrt(mean(x^2) + epsilon) -> RMSNorm without scale."""
    parts = divided_by_root(node.output)
    if parts is None:
        return None
    x, spread, epsilon = parts
    average = mean(spread)
    if average is None or squared(average.x) is not x:
        return None
    type_ = x.tensor
    axis = trailing(average.axes, type_.rank)
    if axis is None:
        return Decline(f"axes {list(average.axes)} are not the last ones of a tensor of rank {type_.rank}")
    shape = static_shape(type_.shape[axis:])
    if shape is None:
        return Decline("the normalized extents are symbolic")
    return builder.add(RMSNorm(axis, epsilon), x, ones(builder, shape, type_.dtype))
