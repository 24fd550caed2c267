# ruff: noqa: E501 - the text of operators is long
"""Padding into the windows that read it."""
from __future__ import annotations

from dlc.passes.fold_pad import FoldPad
from tests.helpers.passes import check_pass, check_unchanged


def test_zeros_into_a_convolution() -> None:
    check_pass(FoldPad(), """
        symbol n = shape(%x, 2)
        input %x: f32[1, 1, n]
        input %w: f32[2, 1, 3]
        %zero = constant f32[] [0.0]
        %p = Pad(before=(0, 0, 1), after=(0, 0, 2), mode="constant")(%x, %zero) : f32[1, 1, n + 3]
        %y = Conv(strides=(1,), dilations=(1,), pads=((1, 1),), groups=1)(%p, %w, _) : f32[1, 2, n + 3]
        output y = %y
    """, """
        symbol n = shape(%x, 2)
        input %x: f32[1, 1, n]
        input %w: f32[2, 1, 3]
        %conv = Conv(strides=(1,), dilations=(1,), pads=((2, 3),), groups=1)(%x, %w, _) : f32[1, 2, n + 3]
        output y = %conv
    """)


def test_zeros_into_an_average_that_counts_them() -> None:
    check_pass(FoldPad(), """
        input %x: f32[1, 1, 6]
        %p = Pad(before=(0, 0, 1), after=(0, 0, 2), mode="constant")(%x, _) : f32[1, 1, 9]
        %y = Pool(fn="average", kernel=(3,), strides=(1,), dilations=(1,), pads=((0, 0),), ceil_mode=false, count_include_pad=false, p=2, indices=false, column_major=false)(%p) : f32[1, 1, 7]
        output y = %y
    """, """
        input %x: f32[1, 1, 6]
        %pool = Pool(fn="average", kernel=(3,), strides=(1,), dilations=(1,), pads=((1, 2),), ceil_mode=false, count_include_pad=true, p=2, indices=false, column_major=false)(%x) : f32[1, 1, 7]
        output y = %pool
    """)


def test_minus_infinity_into_a_maximum() -> None:
    check_pass(FoldPad(), """
        input %x: f32[1, 1, 6]
        %low = constant f32[] [-inf]
        %p = Pad(before=(0, 0, 1), after=(0, 0, 2), mode="constant")(%x, %low) : f32[1, 1, 9]
        %y = Pool(fn="max", kernel=(3,), strides=(1,), dilations=(1,), pads=((0, 0),), ceil_mode=false, count_include_pad=false, p=2, indices=false, column_major=false)(%p) : f32[1, 1, 7]
        output y = %y
    """, """
        input %x: f32[1, 1, 6]
        %pool = Pool(fn="max", kernel=(3,), strides=(1,), dilations=(1,), pads=((1, 2),), ceil_mode=false, count_include_pad=false, p=2, indices=false, column_major=false)(%x) : f32[1, 1, 7]
        output y = %pool
    """)


def test_other_numbers_stay() -> None:
    check_unchanged(FoldPad(), """
        input %x: f32[1, 1, 6]
        input %w: f32[2, 1, 3]
        %one = constant f32[] [1.0]
        %p = Pad(before=(0, 0, 1), after=(0, 0, 2), mode="constant")(%x, %one) : f32[1, 1, 9]
        %y = Conv(strides=(1,), dilations=(1,), pads=((0, 0),), groups=1)(%p, %w, _) : f32[1, 2, 7]
        output y = %y
    """, "does not pad with 1.0")


def test_zeros_before_a_maximum_stay() -> None:
    check_unchanged(FoldPad(), """
        input %x: f32[1, 1, 6]
        %p = Pad(before=(0, 0, 1), after=(0, 0, 2), mode="constant")(%x, _) : f32[1, 1, 9]
        %y = Pool(fn="max", kernel=(3,), strides=(1,), dilations=(1,), pads=((0, 0),), ceil_mode=false, count_include_pad=false, p=2, indices=false, column_major=false)(%p) : f32[1, 1, 7]
        output y = %y
    """, "does not pad with 0.0")


def test_reflections_stay() -> None:
    check_unchanged(FoldPad(), """
        input %x: f32[1, 1, 6]
        input %w: f32[2, 1, 3]
        %p = Pad(before=(0, 0, 1), after=(0, 0, 2), mode="reflect")(%x, _) : f32[1, 1, 9]
        %y = Conv(strides=(1,), dilations=(1,), pads=((0, 0),), groups=1)(%p, %w, _) : f32[1, 2, 7]
        output y = %y
    """, "not constant but reflect")


def test_padded_channels_stay() -> None:
    check_unchanged(FoldPad(), """
        input %x: f32[1, 1, 6]
        input %w: f32[2, 2, 3]
        %p = Pad(before=(0, 1, 0), after=(0, 0, 0), mode="constant")(%x, _) : f32[1, 2, 6]
        %y = Conv(strides=(1,), dilations=(1,), pads=((0, 0),), groups=1)(%p, %w, _) : f32[1, 2, 4]
        output y = %y
    """, "batch or channels")
