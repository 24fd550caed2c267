"""Canonicalization: every rule on the smallest graph, and what must stay."""
from __future__ import annotations

import pytest

from dlc.ir.dtypes import DType
from dlc.passes.canonical.casts import is_lossless
from dlc.passes.canonicalize import Canonicalize
from tests.helpers.passes import check_pass, check_unchanged


def test_constants_stand_on_the_right() -> None:
    check_pass(Canonicalize(), """
        input %x: f32[3]
        %c = constant f32[] [2.0]
        %a = Binary(fn="add")(%c, %x) : f32[3]
        %b = Binary(fn="div")(%c, %a) : f32[3]
        %y = Compare(fn="lt")(%c, %b) : bool[3]
        output y = %y
    """, """
        input %x: f32[3]
        %c = constant f32[] [2.0]
        %binary = Binary(fn="add")(%x, %c) : f32[3]
        %b = Binary(fn="div")(%c, %binary) : f32[3]
        %compare = Compare(fn="gt")(%b, %c) : bool[3]
        output y = %compare
    """)


def test_neutral_elements_disappear() -> None:
    check_pass(Canonicalize(), """
        input %x: f32[3]
        input %b: bool[3]
        %zero = constant f32[] [0.0]
        %one = constant f32[1] [1.0]
        %true = constant bool[] [true]
        %s = Binary(fn="sub")(%x, %zero) : f32[3]
        %t = Binary(fn="mul")(%one, %s) : f32[3]
        %u = Binary(fn="div")(%t, %one) : f32[3]
        %v = Binary(fn="pow")(%u, %one) : f32[3]
        %y = Unary(fn="exp")(%v) : f32[3]
        %c = Binary(fn="and")(%true, %b) : bool[3]
        %z = Unary(fn="not")(%c) : bool[3]
        output y = %y
        output z = %z
    """, """
        input %x: f32[3]
        input %b: bool[3]
        %y = Unary(fn="exp")(%x) : f32[3]
        %z = Unary(fn="not")(%b) : bool[3]
        output y = %y
        output z = %z
    """)


def test_a_neutral_element_that_enlarges_becomes_an_expansion() -> None:
    check_pass(Canonicalize(), """
        input %x: f32[3]
        %zeros = constant f32[2, 1] [-0.0, -0.0]
        %y = Binary(fn="add")(%x, %zeros) : f32[2, 3]
        output y = %y
    """, """
        input %x: f32[3]
        %expand = Expand(shape=(2, 3))(%x) : f32[2, 3]
        output y = %expand
    """)


def test_differences_from_constants_are_sums() -> None:
    check_pass(Canonicalize(), """
        input %x: f32[3]
        %c = constant f32[3] [1.0, 2.0, 3.0]
        %y = Binary(fn="sub")(%x, %c) : f32[3]
        output y = %y
    """, """
        input %x: f32[3]
        %const = constant f32[3] [-1.0, -2.0, -3.0]
        %binary = Binary(fn="add")(%x, %const) : f32[3]
        output y = %binary
    """)


def test_signs_go_into_sums_and_double_functions_go() -> None:
    check_pass(Canonicalize(), """
        input %x: f32[3]
        input %z: f32[3]
        %n = Unary(fn="neg")(%z) : f32[3]
        %a = Binary(fn="add")(%x, %n) : f32[3]
        %b = Binary(fn="sub")(%a, %n) : f32[3]
        %c = Unary(fn="neg")(%b) : f32[3]
        %d = Unary(fn="neg")(%c) : f32[3]
        %e = Unary(fn="abs")(%d) : f32[3]
        %y = Unary(fn="abs")(%e) : f32[3]
        output y = %y
    """, """
        input %x: f32[3]
        input %z: f32[3]
        %binary = Binary(fn="sub")(%x, %z) : f32[3]
        %binary.1 = Binary(fn="add")(%binary, %z) : f32[3]
        %e = Unary(fn="abs")(%binary.1) : f32[3]
        output y = %e
    """)


def test_bounds_become_one_clip() -> None:
    check_pass(Canonicalize(), """
        input %x: f32[4]
        %low = constant f32[] [-1.0]
        %six = constant f32[] [6.0]
        %a = Binary(fn="max")(%x, %low) : f32[4]
        %b = Binary(fn="min")(%six, %a) : f32[4]
        %c = Unary(fn="relu")(%b) : f32[4]
        %y = Unary(fn="exp")(%c) : f32[4]
        output y = %y
    """, """
        input %x: f32[4]
        %clip.3 = Clip(low=0, high=6.0)(%x) : f32[4]
        %y = Unary(fn="exp")(%clip.3) : f32[4]
        output y = %y
    """)


def test_a_clip_from_zero_is_a_relu() -> None:
    check_pass(Canonicalize(), """
        input %x: i32[4]
        %y = Clip(low=0, high=none)(%x) : i32[4]
        output y = %y
    """, """
        input %x: i32[4]
        %unary = Unary(fn="relu")(%x) : i32[4]
        output y = %unary
    """)


def test_a_float_plus_zero_stays_for_the_sign_of_zero() -> None:
    check_unchanged(Canonicalize(), """
        input %x: f32[3]
        %zero = constant f32[] [0.0]
        %y = Binary(fn="add")(%x, %zero) : f32[3]
        output y = %y
    """)


def test_an_integer_plus_zero_goes() -> None:
    check_pass(Canonicalize(), """
        input %x: i32[3]
        %zero = constant i32[] [0]
        %a = Binary(fn="add")(%x, %zero) : i32[3]
        %y = Unary(fn="neg")(%a) : i32[3]
        output y = %y
    """, """
        input %x: i32[3]
        %y = Unary(fn="neg")(%x) : i32[3]
        output y = %y
    """)


def test_division_by_a_constant_stays() -> None:
    check_unchanged(Canonicalize(), """
        input %x: f32[3]
        %c = constant f32[] [3.0]
        %y = Binary(fn="div")(%x, %c) : f32[3]
        output y = %y
    """)


def test_bounds_that_are_not_numbers_stay() -> None:
    check_unchanged(Canonicalize(), """
        input %x: f32[2]
        %low = constant f32[2] [0.0, 1.0]
        %nan = constant f32[] [nan]
        %a = Binary(fn="max")(%x, %low) : f32[2]
        %y = Binary(fn="max")(%a, %nan) : f32[2]
        output y = %y
    """)


def test_functions_that_are_not_their_own_inverse_stay() -> None:
    check_unchanged(Canonicalize(), """
        input %x: f32[2]
        %a = Unary(fn="exp")(%x) : f32[2]
        %b = Unary(fn="exp")(%a) : f32[2]
        %c = Binary(fn="sub")(%b, %x) : f32[2]
        output y = %c
    """)


def test_casts_to_the_own_type_and_through_wider_types_go() -> None:
    check_pass(Canonicalize(), """
        input %x: f16[3]
        %a = Cast(to=f16, saturate=true, round_mode="up")(%x) : f16[3]
        %b = Cast(to=f32, saturate=true, round_mode="up")(%a) : f32[3]
        %y = Cast(to=bf16, saturate=true, round_mode="up")(%b) : bf16[3]
        output y = %y
    """, """
        input %x: f16[3]
        %cast = Cast(to=bf16, saturate=true, round_mode="up")(%x) : bf16[3]
        output y = %cast
    """)


def test_casts_through_narrower_types_stay() -> None:
    check_unchanged(Canonicalize(), """
        input %x: f32[3]
        input %i: i64[3]
        %b = Cast(to=f16, saturate=true, round_mode="up")(%x) : f16[3]
        %y = Cast(to=f32, saturate=true, round_mode="up")(%b) : f32[3]
        %f = Cast(to=f32, saturate=true, round_mode="up")(%i) : f32[3]
        %z = Cast(to=i64, saturate=true, round_mode="up")(%f) : i64[3]
        output y = %y
        output z = %z
    """)


def test_decided_conditions_disappear() -> None:
    check_pass(Canonicalize(), """
        input %x: f32[2, 3]
        input %z: f32[3]
        input %c: bool[3]
        %true = constant bool[] [true]
        %false = constant bool[2, 3] [false, false, false, false, false, false]
        %a = Where()(%true, %x, %z) : f32[2, 3]
        %b = Where()(%false, %a, %z) : f32[2, 3]
        %d = Where()(%c, %b, %b) : f32[2, 3]
        %y = Unary(fn="exp")(%d) : f32[2, 3]
        output y = %y
    """, """
        input %x: f32[2, 3]
        input %z: f32[3]
        input %c: bool[3]
        %unary = Unary(fn="exp")(%z) : f32[3]
        %expand.2 = Expand(shape=(2, 3))(%unary) : f32[2, 3]
        output y = %expand.2
    """)


def test_comparisons_of_counters_are_decided() -> None:
    check_pass(Canonicalize(), """
        symbol n = shape(%x, 0)
        input %x: f32[n]
        %zero = constant i64[] [0]
        %one = constant i64[] [1]
        %r = Range(extent=n)(%zero, %one) : i64[n]
        %c = Compare(fn="ge")(%r, %zero) : bool[n]
        %w = constant f32[] [0.5]
        %y = Where()(%c, %x, %w) : f32[n]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n]
        output y = %x
    """)


def test_open_comparisons_of_counters_stay() -> None:
    check_unchanged(Canonicalize(), """
        symbol n = shape(%x, 0)
        input %x: f32[n]
        %zero = constant i64[] [0]
        %one = constant i64[] [1]
        %four = constant i64[] [4]
        %r = Range(extent=n)(%zero, %one) : i64[n]
        %y = Compare(fn="lt")(%r, %four) : bool[n]
        output y = %y
    """)


def test_movements_of_nothing_disappear() -> None:
    check_pass(Canonicalize(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %a = Reshape(shape=(n, 4))(%x) : f32[n, 4]
        %b = Expand(shape=(n, 4))(%a) : f32[n, 4]
        %c = Slice(starts=(0, 0), extents=(n, 4), steps=(1, 1))(%b) : f32[n, 4]
        %d = Transpose(perm=(0, 1))(%c) : f32[n, 4]
        %e = Tile(repeats=(1, 1))(%d) : f32[n, 4]
        %f = Concat(axis=0)(%e) : f32[n, 4]
        %g = Pad(before=(0, 0), after=(0, 0), mode="constant")(%f, _) : f32[n, 4]
        %y = Unary(fn="exp")(%g) : f32[n, 4]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        %y = Unary(fn="exp")(%x) : f32[n, 4]
        output y = %y
    """)


def test_movements_that_keep_the_shape_only_stay() -> None:
    check_unchanged(Canonicalize(), """
        input %x: f32[4, 4]
        %c = Slice(starts=(3, 0), extents=(4, 4), steps=(-1, 1))(%x) : f32[4, 4]
        %y = Transpose(perm=(1, 0))(%c) : f32[4, 4]
        output y = %y
    """)


def test_movements_in_a_row_become_one() -> None:
    check_pass(Canonicalize(), """
        input %x: f32[2, 3, 4]
        %a = Transpose(perm=(1, 2, 0))(%x) : f32[3, 4, 2]
        %b = Transpose(perm=(1, 0, 2))(%a) : f32[4, 3, 2]
        %c = Reshape(shape=(12, 2))(%b) : f32[12, 2]
        %y = Reshape(shape=(24,))(%c) : f32[24]
        output y = %y
    """, """
        input %x: f32[2, 3, 4]
        %transpose = Transpose(perm=(2, 1, 0))(%x) : f32[4, 3, 2]
        %reshape = Reshape(shape=(24,))(%transpose) : f32[24]
        output y = %reshape
    """)


def test_moving_unit_axes_is_a_reshape() -> None:
    check_pass(Canonicalize(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 1, 4]
        %y = Transpose(perm=(1, 0, 2))(%x) : f32[1, n, 4]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 1, 4]
        %reshape = Reshape(shape=(1, n, 4))(%x) : f32[1, n, 4]
        output y = %reshape
    """)


def test_axes_merged_moved_and_split_are_just_moved() -> None:
    check_pass(Canonicalize(), """
        symbol b = shape(%x, 0)
        symbol s = shape(%x, 2)
        input %x: f32[b, 4, s, 16]
        %a = Reshape(shape=(4*b, s, 16))(%x) : f32[4*b, s, 16]
        %t = Transpose(perm=(0, 2, 1))(%a) : f32[4*b, 16, s]
        %y = Reshape(shape=(b, 4, 16, s))(%t) : f32[b, 4, 16, s]
        output y = %y
    """, """
        symbol b = shape(%x, 0)
        symbol s = shape(%x, 2)
        input %x: f32[b, 4, s, 16]
        %transpose = Transpose(perm=(0, 1, 3, 2))(%x) : f32[b, 4, 16, s]
        output y = %transpose
    """)


def test_axes_moved_split_and_moved_back_are_just_split() -> None:
    check_pass(Canonicalize(), """
        symbol b = shape(%x, 0)
        symbol s = shape(%x, 1)
        input %x: f32[b, s, 16]
        %t = Transpose(perm=(0, 2, 1))(%x) : f32[b, 16, s]
        %r = Reshape(shape=(1, b, 16, s))(%t) : f32[1, b, 16, s]
        %y = Transpose(perm=(0, 1, 3, 2))(%r) : f32[1, b, s, 16]
        output y = %y
    """, """
        symbol b = shape(%x, 0)
        symbol s = shape(%x, 1)
        input %x: f32[b, s, 16]
        %reshape = Reshape(shape=(1, b, s, 16))(%x) : f32[1, b, s, 16]
        output y = %reshape
    """)


def test_splitting_heads_stays() -> None:
    check_unchanged(Canonicalize(), """
        symbol b = shape(%x, 0)
        symbol s = shape(%x, 1)
        input %x: f32[b, s, 64]
        %r = Reshape(shape=(b, s, 4, 16))(%x) : f32[b, s, 4, 16]
        %y = Transpose(perm=(0, 2, 1, 3))(%r) : f32[b, 4, s, 16]
        output y = %y
    """)


def test_nothing_is_expanded_before_a_broadcast() -> None:
    check_pass(Canonicalize(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        input %w: f32[4]
        %e = Expand(shape=(n, 4))(%w) : f32[n, 4]
        %y = Binary(fn="mul")(%x, %e) : f32[n, 4]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        input %w: f32[4]
        %binary = Binary(fn="mul")(%x, %w) : f32[n, 4]
        output y = %binary
    """)


def test_expansion_comes_last() -> None:
    check_pass(Canonicalize(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        input %w: f32[4]
        %two = constant f32[] [2.0]
        %e = Expand(shape=(n, 4))(%w) : f32[n, 4]
        %a = Unary(fn="exp")(%e) : f32[n, 4]
        %b = Binary(fn="mul")(%a, %two) : f32[n, 4]
        %y = Binary(fn="add")(%x, %b) : f32[n, 4]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 4]
        input %w: f32[4]
        %unary = Unary(fn="exp")(%w) : f32[4]
        %two = constant f32[] [2.0]
        %binary = Binary(fn="mul")(%unary, %two) : f32[4]
        %binary.1 = Binary(fn="add")(%x, %binary) : f32[n, 4]
        output y = %binary.1
    """)


def test_concatenations_on_one_axis_become_one() -> None:
    check_pass(Canonicalize(), """
        input %x: f32[2, 3]
        input %z: f32[2, 1]
        %none = constant f32[2, 0] []
        %a = Concat(axis=1)(%x, %z) : f32[2, 4]
        %y = Concat(axis=1)(%a, %none, %x) : f32[2, 7]
        output y = %y
    """, """
        input %x: f32[2, 3]
        input %z: f32[2, 1]
        %concat = Concat(axis=1)(%x, %z, %x) : f32[2, 7]
        output y = %concat
    """)


def test_concatenations_that_others_read_or_on_other_axes_stay() -> None:
    check_unchanged(Canonicalize(), """
        input %x: f32[2, 3]
        %a = Concat(axis=1)(%x, %x) : f32[2, 6]
        %b = Concat(axis=0)(%a, %a) : f32[4, 6]
        output y = %b
    """)


def test_reductions_of_unit_axes_are_reshapes() -> None:
    check_pass(Canonicalize(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 1, 4]
        %m = Reduce(fn="mean", axes=(1,), keepdims=false)(%x) : f32[n, 4]
        %s = Reduce(fn="sum", axes=(1,), keepdims=true)(%x) : f32[n, 1, 4]
        %y = Unary(fn="exp")(%s) : f32[n, 1, 4]
        output m = %m
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 1, 4]
        %y = Unary(fn="exp")(%x) : f32[n, 1, 4]
        %reshape = Reshape(shape=(n, 4))(%x) : f32[n, 4]
        output m = %reshape
        output y = %y
    """)


@pytest.mark.parametrize("narrow, wide, lossless", [
    (DType.F16, DType.F32, True), (DType.F16, DType.BF16, False), (DType.BF16, DType.F32, True),
    (DType.F32, DType.F64, True), (DType.F64, DType.F32, False), (DType.I8, DType.I16, True),
    (DType.I8, DType.U16, False), (DType.U8, DType.I16, True), (DType.U8, DType.I8, False),
    (DType.I16, DType.F32, True), (DType.I32, DType.F32, False), (DType.I32, DType.F64, True),
    (DType.I64, DType.F64, False), (DType.U8, DType.F16, True), (DType.I16, DType.F16, False),
    (DType.U16, DType.F16, False), (DType.BOOL, DType.U8, True), (DType.I8, DType.BOOL, False),
    (DType.I8, DType.BF16, True), (DType.F32, DType.F32, True), (DType.F32, DType.I64, False),
])
def test_lossless_conversions(narrow: DType, wide: DType, lossless: bool) -> None:
    assert is_lossless(narrow, wide) is lossless
