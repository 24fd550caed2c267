"""Softmax from exponentials and their sum."""
from __future__ import annotations

from dlc.passes.raise_softmax import RaiseSoftmax
from tests.helpers.passes import check_pass, check_unchanged


def test_with_the_maximum_subtracted() -> None:
    check_pass(RaiseSoftmax(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %m = Reduce(fn="max", axes=(1,), keepdims=true)(%x) : f32[n, 1]
        %d = Binary(fn="sub")(%x, %m) : f32[n, 4]
        %e = Unary(fn="exp")(%d) : f32[n, 4]
        %s = Reduce(fn="sum", axes=(1,), keepdims=true)(%e) : f32[n, 1]
        %y = Binary(fn="div")(%e, %s) : f32[n, 4]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %softmax = Softmax(axis=1)(%x) : f32[n, 4]
        output y = %softmax
    """)


def test_its_logarithm() -> None:
    check_pass(RaiseSoftmax(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %m = Reduce(fn="max", axes=(1,), keepdims=true)(%x) : f32[n, 1]
        %d = Binary(fn="sub")(%x, %m) : f32[n, 4]
        %e = Unary(fn="exp")(%d) : f32[n, 4]
        %s = Reduce(fn="sum", axes=(1,), keepdims=true)(%e) : f32[n, 1]
        %y = Binary(fn="div")(%e, %s) : f32[n, 4]
        %l = Unary(fn="log")(%y) : f32[n, 4]
        output l = %l
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %logsoftmax = LogSoftmax(axis=1)(%x) : f32[n, 4]
        output l = %logsoftmax
    """)


def test_without_its_own_maximum_it_stays() -> None:
    check_unchanged(RaiseSoftmax(), """
        input %x: f32[2, 4]
        input %m: f32[2, 1]
        %d = Binary(fn="sub")(%x, %m) : f32[2, 4]
        %e = Unary(fn="exp")(%d) : f32[2, 4]
        %s = Reduce(fn="sum", axes=(1,), keepdims=true)(%e) : f32[2, 1]
        %y = Binary(fn="div")(%e, %s) : f32[2, 4]
        output y = %y
    """, "no maximum")


def test_several_axes_stay() -> None:
    check_unchanged(RaiseSoftmax(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %m = Reduce(fn="max", axes=(0, 1), keepdims=true)(%x) : f32[1, 1]
        %d = Binary(fn="sub")(%x, %m) : f32[n, 4]
        %e = Unary(fn="exp")(%d) : f32[n, 4]
        %s = Reduce(fn="sum", axes=(0, 1), keepdims=true)(%e) : f32[1, 1]
        %y = Binary(fn="div")(%e, %s) : f32[n, 4]
        output y = %y
    """, "single axis")


def test_another_sum_stays() -> None:
    check_unchanged(RaiseSoftmax(), """
        input %x: f32[2, 4]
        %e = Unary(fn="exp")(%x) : f32[2, 4]
        %s = Reduce(fn="sum", axes=(1,), keepdims=true)(%x) : f32[2, 1]
        %y = Binary(fn="div")(%e, %s) : f32[2, 4]
        output y = %y
    """)
