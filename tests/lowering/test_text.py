"""The text form of kernels: exact, short where expressions are shared, with errors that say where."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings, strategies as st

from dlc.errors import InputError
from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.types import NEG_INF, UNDEFINED, ZERO, Fill, FillKind, Halo, Layout, TensorType
from dlc.lowering import expr as e
from dlc.lowering.canonical import structural_hash
from dlc.lowering.kernel import Access, Axis, Kernel, Param, Routine, Store
from dlc.lowering.parse import parse
from dlc.lowering.text import expression_text, to_text

F32, I64, BOOL = DType.F32, DType.I64, DType.BOOL
I = Symbol("i", 0, 7)  # noqa: E741


def kernel_of(value: e.Expr, *params: Param) -> Kernel:
    """y[i] = value for 8 points."""
    y = Param("y", TensorType(value.dtype, (8,)), Access.WRITE)
    return Kernel("map", (*params, y), (Axis("i", 8),), (Store("y", ("i",), (I,), value),))


def read(name: str, dtype: DType = F32) -> Param:
    return Param(name, TensorType(dtype, (8,)), Access.READ)


def same(kernel: Kernel) -> str:
    """The text, which must parse back to the kernel."""
    text = to_text(kernel)
    assert parse(text) == kernel
    assert to_text(parse(text)) == text
    return text


X = e.Load(F32, "x", (I,))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1e-45, "1e-45"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        (3.4028234663852886e38, "3.4028234663852886e+38"),
    ],
)
def test_float_constants_are_exact(value: float, text: str) -> None:
    assert f"= x[i] * {text}\n" in same(kernel_of(e.Binary(F32, "mul", X, e.Const(F32, value)), read("x")))


@given(st.floats(width=64), st.sampled_from([DType.F64, DType.F32, DType.F16, DType.BF16]))
@settings(max_examples=50)
def test_any_float_constant_comes_back(value: float, dtype: DType) -> None:
    same(kernel_of(e.Const(dtype, value)))


def test_constants_carry_their_type_unless_it_is_the_usual_one() -> None:
    assert expression_text(e.Const(DType.F64, 0.5)) == "0.5:f64"
    assert expression_text(e.Const(I64, -3)) == "-3"
    assert expression_text(e.Const(DType.U8, 3)) == "3:u8"
    assert expression_text(e.Const(BOOL, True)) == "true"


def binary(fn: str, left: e.Expr, right: e.Expr) -> e.Expr:
    return e.Binary(left.dtype, fn, left, right)


A, B, C = (e.Load(F32, name, (I,)) for name in "abc")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (binary("add", binary("add", A, B), C), "a[i] + b[i] + c[i]"),
        (binary("add", A, binary("add", B, C)), "a[i] + (b[i] + c[i])"),
        (binary("sub", A, binary("sub", B, C)), "a[i] - (b[i] - c[i])"),
        (binary("mul", binary("add", A, B), C), "(a[i] + b[i]) * c[i]"),
        (binary("add", binary("mul", A, B), C), "a[i] * b[i] + c[i]"),
        (binary("div", A, binary("mul", B, C)), "a[i] / (b[i] * c[i])"),
        (binary("sub", A, e.Const(F32, -1.0)), "a[i] - -1.0"),
        (binary("max", A, binary("pow", B, C)), "max(a[i], pow(b[i], c[i]))"),
        (e.Select(F32, e.Compare(BOOL, "le", A, B), A, C), "select(a[i] <= b[i], a[i], c[i])"),
        (e.Cast(DType.U8, A, e.CastMode.SATURATE), "u8.saturate(a[i])"),
        (e.Cast(DType.I32, A, e.CastMode.BITS), "i32.bits(a[i])"),
        (e.Unary(BOOL, "is_nan", A), "is_nan(a[i])"),
        (e.Iota(DType.I32, I + 3), "iota(i + 3):i32"),
    ],
)
def test_expressions(value: e.Expr, text: str) -> None:
    printed = same(kernel_of(value, *(read(name) for name in "abc")))
    assert f"for i: y[i] = {text}\n" in printed


def test_comparisons_stand_in_parentheses_within_comparisons() -> None:
    both = e.Compare(BOOL, "eq", e.Compare(BOOL, "lt", A, B), e.Compare(BOOL, "ge", B, C))
    assert "(a[i] < b[i]) == (b[i] >= c[i])" in same(kernel_of(both, *(read(name) for name in "abc")))


def test_shared_expressions_are_written_once() -> None:
    value: e.Expr = X
    for _ in range(40):
        value = binary("mul", value, binary("add", value, e.Const(F32, 1.0)))
    text = same(kernel_of(value, read("x")))
    assert len(text) < 3000 and " where %0 = " in text


def test_deep_expressions_are_cut_into_pieces() -> None:
    value: e.Expr = X
    for _ in range(2000):
        value = e.Unary(F32, "sin", value)
    assert " where %0 = " in same(kernel_of(value, read("x")))


def test_masks_and_indices_from_data() -> None:
    inner = e.Load(I64, "k", (I,))
    masked = e.Load(F32, "x", (inner,), (e.InRange(I - 1, 0, 8), e.InRange(I, 2, 5)), e.Const(F32, 1.5))
    text = same(kernel_of(masked, read("x"), read("k", I64)))
    assert "x[{k[i]} | 0 <= i - 1 < 8, 2 <= i < 5 | 1.5]" in text


def test_symbols_that_look_like_words() -> None:
    names = ("for", "over", "where", "read", "axis", "true", "reduce")
    symbols = [Symbol(name, 0, None) for name in names]
    index = symbols[0]
    for symbol in symbols[1:]:
        index = index + symbol
    params = (
        Param("x", TensorType(F32, (index,)), Access.READ),
        Param("y", TensorType(F32, ()), Access.WRITE),
    )
    routine = Routine("r", ("x", "y"), (("a", symbols[5]), ("b", True), ("c", 1.0), ("d", 'q"\n'), ("e", -3)))
    load = e.Load(F32, "x", (index - 1,), (e.InRange(symbols[2], 0, symbols[0]),), e.Const(F32, 0.0))
    same(Kernel("words", params, (), (Store("y", (), (), load), routine)))


def test_types_with_layouts_strides_and_ranges() -> None:
    layout = Layout(
        ((0, None), (1, None), (2, None), (1, 16)),
        (Halo(2, 1, 2, ZERO), Halo(0, 0, 1, NEG_INF), Halo(1, 3, 3, Fill(FillKind.VALUE, -2.5))),
        UNDEFINED,
    )
    n = Symbol("n", 1, 64)
    param = Param("x", TensorType(DType.BF16, (n, 24, n * 2), layout), Access.UPDATE, (n * 99, 64, 16, 1))
    text = same(Kernel("types", (param,), (Axis("i", n // 2),), (), ('a "b"\n', "\x1b[31m")))
    assert "symbol n: 1..64" in text and text.isascii() and "\x1b" not in text


def test_the_hash_is_of_the_structure() -> None:
    value = binary("mul", X, e.Const(F32, 2.0))
    kernel = kernel_of(value, read("x"))
    renamed = parse(to_text(kernel).replace("x[", "z[").replace("read x", "read z").replace("map", "other"))
    assert structural_hash(renamed) == structural_hash(kernel)
    assert structural_hash(dataclasses.replace(kernel, origins=("node",))) == structural_hash(kernel)
    assert structural_hash(kernel_of(binary("mul", X, e.Const(F32, 3.0)), read("x"))) != structural_hash(
        kernel
    )
    assert len(structural_hash(kernel)) == 64


VALID = """kernel k {
  read x: f32[8]
  write y: f32[8]
  axis i: 8
  for i: y[i] = x[i]
}
"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("kernel k {", "kernel k", "line 1.*expected '{'"),
        ("f32[8]\n  write", "f33[8]\n  write", "line 2.*there is no such type"),
        ("x: f32[8]", "x: f32[n]", "line 2.*unknown symbol n"),
        ("axis i: 8", "axis i:", "line 4.*expected an extent"),
        ("axis i: 8", "axis y: 8", "line 5.*there is no axis i"),
        ("for i: y", "for j: y", "line 5.*there is no axis j"),
        ("y[i] =", "z[i] =", "line 5.*there is no parameter z"),
        ("y[i] =", "y[i, i] =", "line 5.*expected '\\]'"),
        ("= x[i]", "= z[i]", "line 5.*there is no parameter or local z"),
        ("= x[i]", "= sinus(x[i])", "line 5.*there is no function sinus of 1 operands"),
        ("= x[i]", "= f32.up(x[i])", "line 5.*there is no mode of conversion 'up'"),
        ("= x[i]", "= x[i] x", "line 5.*expected the end of the line"),
        ("= x[i]", "= %0", "line 5.*%0 is not bound"),
        ("= x[i]", "= " + "(" * 200 + "x[i]", "line 5.*nested"),
        ("= x[i]", "", "line 5.*expected an assignment"),
        ("write y", "write x", "line 3.*the name x is taken"),
        ("}\n", "", "the text ends within a kernel"),
        ("}\n", "}\nmore", "line 7.*expected the end of the text"),
    ],
)
def test_errors_say_where(old: str, new: str, problem: str) -> None:
    assert old in VALID
    with pytest.raises(InputError, match=problem):
        parse(VALID.replace(old, new))


def test_comments_and_blank_lines() -> None:
    commented = VALID.replace("  axis", "\n  # the points\n  axis")
    assert parse(commented) == parse(VALID)
