# ruff: noqa: E501 - the text of operators is long
"""Constants after a convolution into its bias."""
from __future__ import annotations

from dlc.passes.fold_bias import FoldBias
from tests.helpers.passes import check_pass, check_unchanged


def test_a_constant_for_each_channel_becomes_the_bias() -> None:
    check_pass(FoldBias(), """
        input %x: f32[2, 1, 6]
        %w = constant f32[2, 1, 3] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %c = constant f32[2, 1] [0.5, 1.5]
        %a = Conv(strides=(1,), dilations=(1,), pads=((0, 0),), groups=1)(%x, %w, _) : f32[2, 2, 4]
        %y = Binary(fn="add")(%a, %c) : f32[2, 2, 4]
        output y = %y
    """, """
        input %x: f32[2, 1, 6]
        %weights = constant f32[2, 1, 3] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %weights.1 = constant f32[2] [0.5, 1.5]
        %conv = Conv(strides=(1,), dilations=(1,), pads=((0, 0),), groups=1)(%x, %weights, %weights.1) : f32[2, 2, 4]
        output y = %conv
    """)


def test_biases_are_added() -> None:
    check_pass(FoldBias(), """
        input %x: f32[2, 1, 6]
        %w = constant f32[2, 1, 3] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %b = constant f32[2] [0.5, 1.5]
        %c = constant f32[] [2.0]
        %a = Conv(strides=(1,), dilations=(1,), pads=((0, 0),), groups=1)(%x, %w, %b) : f32[2, 2, 4]
        %y = Binary(fn="add")(%a, %c) : f32[2, 2, 4]
        output y = %y
    """, """
        input %x: f32[2, 1, 6]
        %weights = constant f32[2, 1, 3] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %weights.1 = constant f32[2] [2.5, 3.5]
        %conv = Conv(strides=(1,), dilations=(1,), pads=((0, 0),), groups=1)(%x, %weights, %weights.1) : f32[2, 2, 4]
        output y = %conv
    """)


def test_two_constants_in_a_row_are_one() -> None:
    check_pass(FoldBias(), """
        input %x: f32[2, 3]
        %b = constant f32[3] [0.5, 1.5, 2.5]
        %c = constant f32[] [2.0]
        %a = Binary(fn="add")(%x, %b) : f32[2, 3]
        %y = Binary(fn="add")(%a, %c) : f32[2, 3]
        output y = %y
    """, """
        input %x: f32[2, 3]
        %bias = constant f32[3] [2.5, 3.5, 4.5]
        %binary = Binary(fn="add")(%x, %bias) : f32[2, 3]
        output y = %binary
    """)


def test_zeros_are_not_added() -> None:
    check_pass(FoldBias(), """
        input %x: f32[2, 3]
        %zero = constant f32[] [0.0]
        %a = Binary(fn="add")(%x, %zero) : f32[2, 3]
        %y = Unary(fn="exp")(%a) : f32[2, 3]
        output y = %y
    """, """
        input %x: f32[2, 3]
        %y = Unary(fn="exp")(%x) : f32[2, 3]
        output y = %y
    """)


def test_constants_that_vary_in_space_stay() -> None:
    check_unchanged(FoldBias(), """
        input %x: f32[2, 1, 6]
        %w = constant f32[2, 1, 3] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %c = constant f32[4] [0.5, 1.5, 2.5, 3.5]
        %a = Conv(strides=(1,), dilations=(1,), pads=((0, 0),), groups=1)(%x, %w, _) : f32[2, 2, 4]
        %y = Binary(fn="add")(%a, %c) : f32[2, 2, 4]
        output y = %y
    """, "not one number a channel")


def test_results_that_others_read_stay() -> None:
    check_unchanged(FoldBias(), """
        input %x: f32[2, 1, 6]
        %w = constant f32[2, 1, 3] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %c = constant f32[] [0.5]
        %a = Conv(strides=(1,), dilations=(1,), pads=((0, 0),), groups=1)(%x, %w, _) : f32[2, 2, 4]
        %y = Binary(fn="add")(%a, %c) : f32[2, 2, 4]
        output y = %y
        output a = %a
    """, "read elsewhere")


def test_computed_weights_stay() -> None:
    check_unchanged(FoldBias(), """
        input %x: f32[2, 1, 6]
        input %w: f32[2, 1, 3]
        %c = constant f32[] [0.5]
        %a = Conv(strides=(1,), dilations=(1,), pads=((0, 0),), groups=1)(%x, %w, _) : f32[2, 2, 4]
        %y = Binary(fn="add")(%a, %c) : f32[2, 2, 4]
        output y = %y
    """, "weights are not constant")
