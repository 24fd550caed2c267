"""RMSNorm from chains, and chains that are none."""
from __future__ import annotations

from dlc.passes.raise_rms_norm import RaiseRMSNorm
from tests.helpers.passes import check_pass, check_unchanged


def test_reciprocal_of_the_root() -> None:
    check_pass(RaiseRMSNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %two = constant f32[] [2.0]
        %one = constant f32[] [1.0]
        %epsilon = constant f32[] [1e-06]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %q = Binary(fn="pow")(%x, %two) : f32[n, 4]
        %v = Reduce(fn="mean", axes=(1,), keepdims=true)(%q) : f32[n, 1]
        %e = Binary(fn="add")(%v, %epsilon) : f32[n, 1]
        %r = Unary(fn="sqrt")(%e) : f32[n, 1]

        %i = Unary(fn="reciprocal")(%r) : f32[n, 1]
        %o = Binary(fn="mul")(%x, %i) : f32[n, 4]
        %y = Binary(fn="mul")(%scale, %o) : f32[n, 4]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %rmsnorm.1 = RMSNorm(axis=1, epsilon=9.999999974752427e-07)(%x, %scale) : f32[n, 4]
        output y = %rmsnorm.1
    """)


def test_one_divided_by_the_root() -> None:
    check_pass(RaiseRMSNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %two = constant f32[] [2.0]
        %one = constant f32[] [1.0]
        %epsilon = constant f32[] [1e-06]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %q = Binary(fn="pow")(%x, %two) : f32[n, 4]
        %v = Reduce(fn="mean", axes=(1,), keepdims=true)(%q) : f32[n, 1]
        %e = Binary(fn="add")(%v, %epsilon) : f32[n, 1]
        %r = Unary(fn="sqrt")(%e) : f32[n, 1]

        %i = Binary(fn="div")(%one, %r) : f32[n, 1]
        %y = Binary(fn="mul")(%i, %x) : f32[n, 4]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %ones = constant f32[4] [1.0, 1.0, 1.0, 1.0]
        %rmsnorm = RMSNorm(axis=1, epsilon=9.999999974752427e-07)(%x, %ones) : f32[n, 4]
        output y = %rmsnorm
    """)


def test_quotient() -> None:
    check_pass(RaiseRMSNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %two = constant f32[] [2.0]
        %one = constant f32[] [1.0]
        %epsilon = constant f32[] [1e-06]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %q = Binary(fn="pow")(%x, %two) : f32[n, 4]
        %v = Reduce(fn="mean", axes=(1,), keepdims=true)(%q) : f32[n, 1]
        %e = Binary(fn="add")(%v, %epsilon) : f32[n, 1]
        %r = Unary(fn="sqrt")(%e) : f32[n, 1]

        %y = Binary(fn="div")(%x, %r) : f32[n, 4]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %ones = constant f32[4] [1.0, 1.0, 1.0, 1.0]
        %rmsnorm = RMSNorm(axis=1, epsilon=9.999999974752427e-07)(%x, %ones) : f32[n, 4]
        output y = %rmsnorm
    """)


def test_another_numerator_stays() -> None:
    check_unchanged(RaiseRMSNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %two = constant f32[] [2.0]
        %one = constant f32[] [1.0]
        %epsilon = constant f32[] [1e-06]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %q = Binary(fn="pow")(%x, %two) : f32[n, 4]
        %v = Reduce(fn="mean", axes=(1,), keepdims=true)(%q) : f32[n, 1]
        %e = Binary(fn="add")(%v, %epsilon) : f32[n, 1]
        %r = Unary(fn="sqrt")(%e) : f32[n, 1]

        %z = Unary(fn="exp")(%x) : f32[n, 4]
        %y = Binary(fn="div")(%z, %r) : f32[n, 4]
        output y = %y
    """)


def test_symbolic_extents_stay() -> None:
    check_unchanged(RaiseRMSNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %two = constant f32[] [2.0]
        %one = constant f32[] [1.0]
        %epsilon = constant f32[] [1e-06]
        %scale = constant f32[4] [1.0, 2.0, 0.5, -1.0]
        %q = Binary(fn="pow")(%x, %two) : f32[n, 4]
        %v = Reduce(fn="mean", axes=(0, 1), keepdims=true)(%q) : f32[1, 1]
        %e = Binary(fn="add")(%v, %epsilon) : f32[1, 1]
        %r = Unary(fn="sqrt")(%e) : f32[1, 1]

        %y = Binary(fn="div")(%x, %r) : f32[n, 4]
        output y = %y
    """, "symbolic")
