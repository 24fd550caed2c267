# ruff: noqa: E501 - the text of operators is long
"""LayerNorm from the chains of several exporters, and chains that are none."""
from __future__ import annotations

from dlc.passes.raise_layer_norm import RaiseLayerNorm
from tests.helpers.passes import check_pass, check_unchanged


def test_torchscript_exporter() -> None:
    check_pass(RaiseLayerNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 3, 4]
        %two = constant f32[] [2.0]
        %epsilon = constant f32[] [1e-05]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %bias = constant f32[4] [0.5, 0.0, 1.0, 2.0]
        %m = Reduce(fn="mean", axes=(2,), keepdims=true)(%x) : f32[n, 3, 1]
        %d = Binary(fn="sub")(%x, %m) : f32[n, 3, 4]
        %q = Binary(fn="pow")(%d, %two) : f32[n, 3, 4]
        %v = Reduce(fn="mean", axes=(2,), keepdims=true)(%q) : f32[n, 3, 1]
        %e = Binary(fn="add")(%v, %epsilon) : f32[n, 3, 1]
        %r = Unary(fn="sqrt")(%e) : f32[n, 3, 1]
        %o = Binary(fn="div")(%d, %r) : f32[n, 3, 4]

        %s = Binary(fn="mul")(%o, %scale) : f32[n, 3, 4]
        %y = Binary(fn="add")(%s, %bias) : f32[n, 3, 4]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 3, 4]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %bias = constant f32[4] [0.5, 0.0, 1.0, 2.0]
        %layernorm.2 = LayerNorm(axis=2, epsilon=9.999999747378752e-06, statistics=false)(%x, %scale, %bias) : f32[n, 3, 4]
        output y = %layernorm.2
    """)


def test_products_reciprocals_and_scale_on_the_left() -> None:
    check_pass(RaiseLayerNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %epsilon = constant f32[] [1e-05]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %m = Reduce(fn="mean", axes=(1,), keepdims=true)(%x) : f32[n, 1]
        %d = Binary(fn="sub")(%x, %m) : f32[n, 4]
        %q = Binary(fn="mul")(%d, %d) : f32[n, 4]
        %v = Reduce(fn="mean", axes=(1,), keepdims=true)(%q) : f32[n, 1]
        %e = Binary(fn="add")(%v, %epsilon) : f32[n, 1]
        %r = Unary(fn="sqrt")(%e) : f32[n, 1]
        %i = Unary(fn="reciprocal")(%r) : f32[n, 1]
        %o = Binary(fn="mul")(%i, %d) : f32[n, 4]
        %y = Binary(fn="mul")(%scale, %o) : f32[n, 4]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %layernorm.1 = LayerNorm(axis=1, epsilon=9.999999747378752e-06, statistics=false)(%x, %scale, _) : f32[n, 4]
        output y = %layernorm.1
    """)


def test_keras() -> None:
    check_pass(RaiseLayerNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %epsilon = constant f32[] [0.001]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %bias = constant f32[4] [0.5, 0.0, 1.0, 2.0]
        %m = Reduce(fn="mean", axes=(1,), keepdims=true)(%x) : f32[n, 1]
        %d = Binary(fn="sub")(%x, %m) : f32[n, 4]
        %q = Binary(fn="mul")(%d, %d) : f32[n, 4]
        %v = Reduce(fn="mean", axes=(1,), keepdims=true)(%q) : f32[n, 1]
        %e = Binary(fn="add")(%v, %epsilon) : f32[n, 1]
        %r = Unary(fn="sqrt")(%e) : f32[n, 1]
        %i = Unary(fn="reciprocal")(%r) : f32[n, 1]
        %f = Binary(fn="mul")(%i, %scale) : f32[n, 4]
        %a = Binary(fn="mul")(%m, %f) : f32[n, 4]
        %b = Binary(fn="sub")(%bias, %a) : f32[n, 4]
        %c = Binary(fn="mul")(%x, %f) : f32[n, 4]
        %y = Binary(fn="add")(%c, %b) : f32[n, 4]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %bias = constant f32[4] [0.5, 0.0, 1.0, 2.0]
        %layernorm = LayerNorm(axis=1, epsilon=0.0010000000474974513, statistics=false)(%x, %scale, %bias) : f32[n, 4]
        output y = %layernorm
    """)


def test_several_axes_and_no_scale() -> None:
    check_pass(RaiseLayerNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 2, 2]
        %two = constant f32[] [2.0]
        %epsilon = constant f32[] [1e-05]
        %power = constant f32[] [-0.5]
        %m = Reduce(fn="mean", axes=(1, 2), keepdims=true)(%x) : f32[n, 1, 1]
        %d = Binary(fn="sub")(%x, %m) : f32[n, 2, 2]
        %q = Binary(fn="pow")(%d, %two) : f32[n, 2, 2]
        %v = Reduce(fn="mean", axes=(1, 2), keepdims=true)(%q) : f32[n, 1, 1]
        %e = Binary(fn="add")(%v, %epsilon) : f32[n, 1, 1]
        %r = Binary(fn="pow")(%e, %power) : f32[n, 1, 1]
        %y = Binary(fn="mul")(%d, %r) : f32[n, 2, 2]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 2, 2]
        %ones = constant f32[2, 2] [1.0, 1.0, 1.0, 1.0]
        %layernorm = LayerNorm(axis=1, epsilon=9.999999747378752e-06, statistics=false)(%x, %ones, _) : f32[n, 2, 2]
        output y = %layernorm
    """)


def test_casts_around_a_norm_go() -> None:
    check_pass(RaiseLayerNorm(), """
        symbol n = shape(%x, 0)
        input %x: f16[n, 4]
        %two = constant f32[] [2.0]
        %epsilon = constant f32[] [1e-05]
        %scale = constant f16[4] [1.0, 2.0, 0.5, -1.0]
        %w = Cast(to=f32, saturate=true, round_mode="up")(%x) : f32[n, 4]
        %m = Reduce(fn="mean", axes=(1,), keepdims=true)(%w) : f32[n, 1]
        %d = Binary(fn="sub")(%w, %m) : f32[n, 4]
        %q = Binary(fn="pow")(%d, %two) : f32[n, 4]
        %v = Reduce(fn="mean", axes=(1,), keepdims=true)(%q) : f32[n, 1]
        %e = Binary(fn="add")(%v, %epsilon) : f32[n, 1]
        %r = Unary(fn="sqrt")(%e) : f32[n, 1]
        %o = Binary(fn="div")(%d, %r) : f32[n, 4]
        %h = Cast(to=f16, saturate=true, round_mode="up")(%o) : f16[n, 4]
        %y = Binary(fn="mul")(%h, %scale) : f16[n, 4]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f16[n, 4]
        %scale = constant f16[4] [1.0, 2.0, 0.5, -1.0]
        %layernorm.2 = LayerNorm(axis=1, epsilon=9.999999747378752e-06, statistics=false)(%x, %scale, _) : f16[n, 4]
        output y = %layernorm.2
    """)


def test_a_residual_is_no_bias() -> None:
    check_pass(RaiseLayerNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 3, 4]
        input %z: f32[n, 3, 4]
        %two = constant f32[] [2.0]
        %epsilon = constant f32[] [1e-05]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %bias = constant f32[4] [0.5, 0.0, 1.0, 2.0]
        %m = Reduce(fn="mean", axes=(2,), keepdims=true)(%x) : f32[n, 3, 1]
        %d = Binary(fn="sub")(%x, %m) : f32[n, 3, 4]
        %q = Binary(fn="pow")(%d, %two) : f32[n, 3, 4]
        %v = Reduce(fn="mean", axes=(2,), keepdims=true)(%q) : f32[n, 3, 1]
        %e = Binary(fn="add")(%v, %epsilon) : f32[n, 3, 1]
        %r = Unary(fn="sqrt")(%e) : f32[n, 3, 1]
        %o = Binary(fn="div")(%d, %r) : f32[n, 3, 4]

        %s = Binary(fn="mul")(%o, %scale) : f32[n, 3, 4]
        %t = Unary(fn="exp")(%z) : f32[n, 3, 4]
        %y = Binary(fn="add")(%s, %t) : f32[n, 3, 4]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 3, 4]
        input %z: f32[n, 3, 4]
        %t = Unary(fn="exp")(%z) : f32[n, 3, 4]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %layernorm.1 = LayerNorm(axis=2, epsilon=9.999999747378752e-06, statistics=false)(%x, %scale, _) : f32[n, 3, 4]
        %y = Binary(fn="add")(%layernorm.1, %t) : f32[n, 3, 4]
        output y = %y
    """)


def test_axes_that_are_not_the_last_stay() -> None:
    check_unchanged(RaiseLayerNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 3, 4]
        %two = constant f32[] [2.0]
        %epsilon = constant f32[] [1e-05]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %bias = constant f32[4] [0.5, 0.0, 1.0, 2.0]
        %m = Reduce(fn="mean", axes=(1,), keepdims=true)(%x) : f32[n, 1, 4]
        %d = Binary(fn="sub")(%x, %m) : f32[n, 3, 4]
        %q = Binary(fn="pow")(%d, %two) : f32[n, 3, 4]
        %v = Reduce(fn="mean", axes=(1,), keepdims=true)(%q) : f32[n, 1, 4]
        %e = Binary(fn="add")(%v, %epsilon) : f32[n, 1, 4]
        %r = Unary(fn="sqrt")(%e) : f32[n, 1, 4]
        %o = Binary(fn="div")(%d, %r) : f32[n, 3, 4]

        output o = %o
    """, "not the last ones")


def test_a_variance_over_other_axes_stays() -> None:
    check_unchanged(RaiseLayerNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 3, 4]
        %two = constant f32[] [2.0]
        %epsilon = constant f32[] [1e-05]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %bias = constant f32[4] [0.5, 0.0, 1.0, 2.0]
        %m = Reduce(fn="mean", axes=(2,), keepdims=true)(%x) : f32[n, 3, 1]
        %d = Binary(fn="sub")(%x, %m) : f32[n, 3, 4]
        %q = Binary(fn="pow")(%d, %two) : f32[n, 3, 4]
        %v = Reduce(fn="mean", axes=(1, 2), keepdims=true)(%q) : f32[n, 1, 1]
        %e = Binary(fn="add")(%v, %epsilon) : f32[n, 1, 1]
        %r = Unary(fn="sqrt")(%e) : f32[n, 1, 1]
        %o = Binary(fn="div")(%d, %r) : f32[n, 3, 4]

        output o = %o
    """, "not that of the numerator")


def test_a_sum_of_squares_is_no_variance() -> None:
    check_unchanged(RaiseLayerNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 3, 4]
        %two = constant f32[] [2.0]
        %epsilon = constant f32[] [1e-05]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %bias = constant f32[4] [0.5, 0.0, 1.0, 2.0]
        %m = Reduce(fn="mean", axes=(2,), keepdims=true)(%x) : f32[n, 3, 1]
        %d = Binary(fn="sub")(%x, %m) : f32[n, 3, 4]
        %q = Binary(fn="pow")(%d, %two) : f32[n, 3, 4]
        %v = Reduce(fn="sum", axes=(2,), keepdims=true)(%q) : f32[n, 3, 1]
        %e = Binary(fn="add")(%v, %epsilon) : f32[n, 3, 1]
        %r = Unary(fn="sqrt")(%e) : f32[n, 3, 1]
        %o = Binary(fn="div")(%d, %r) : f32[n, 3, 4]

        output o = %o
    """)


def test_epsilon_outside_the_root_stays() -> None:
    check_unchanged(RaiseLayerNorm(), """
        input %x: f32[2, 4]
        %two = constant f32[] [2.0]
        %epsilon = constant f32[] [1e-05]
        %m = Reduce(fn="mean", axes=(1,), keepdims=true)(%x) : f32[2, 1]
        %d = Binary(fn="sub")(%x, %m) : f32[2, 4]
        %q = Binary(fn="pow")(%d, %two) : f32[2, 4]
        %v = Reduce(fn="mean", axes=(1,), keepdims=true)(%q) : f32[2, 1]
        %r = Unary(fn="sqrt")(%v) : f32[2, 1]
        %e = Binary(fn="add")(%r, %epsilon) : f32[2, 1]
        %y = Binary(fn="div")(%d, %e) : f32[2, 4]
        output y = %y
    """)
