# ruff: noqa: E501 - the text of operators is long
"""Scales and shifts around contractions into their weights."""
from __future__ import annotations

from dlc.passes.fold_scale import FoldScale
from tests.helpers.passes import check_pass, check_unchanged, graph_of, run_and_compare


def test_a_number_after_a_product_with_bias() -> None:
    check_pass(FoldScale(), """
        input %x: f32[2, 3]
        %w = constant f32[3, 2] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %b = constant f32[2] [1.0, 0.5]
        %eighth = constant f32[] [0.125]
        %m = MatMul()(%x, %w) : f32[2, 2]
        %a = Binary(fn="add")(%m, %b) : f32[2, 2]
        %y = Binary(fn="mul")(%a, %eighth) : f32[2, 2]
        output y = %y
    """, """
        input %x: f32[2, 3]
        %weights = constant f32[3, 2] [0.125, 0.25, 0.375, 0.5, 0.625, 0.75]
        %matmul = MatMul()(%x, %weights) : f32[2, 2]
        %weights.1 = constant f32[2] [0.125, 0.0625]
        %binary = Binary(fn="add")(%matmul, %weights.1) : f32[2, 2]
        output y = %binary
    """)


def test_division_after_a_convolution() -> None:
    check_pass(FoldScale(), """
        input %x: f32[2, 1, 6]
        %w = constant f32[2, 1, 3] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %c = constant f32[2, 1] [0.5, 2.0]
        %a = Conv(strides=(1,), dilations=(1,), pads=((0, 0),), groups=1)(%x, %w, _) : f32[2, 2, 4]
        %y = Binary(fn="div")(%a, %c) : f32[2, 2, 4]
        output y = %y
    """, """
        input %x: f32[2, 1, 6]
        %weights = constant f32[2, 1, 3] [2.0, 4.0, 6.0, 2.0, 2.5, 3.0]
        %conv = Conv(strides=(1,), dilations=(1,), pads=((0, 0),), groups=1)(%x, %weights, _) : f32[2, 2, 4]
        output y = %conv
    """)


def test_factors_before_a_product() -> None:
    check_pass(FoldScale(), """
        input %x: f32[2, 3]
        %w = constant f32[3, 2] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %c = constant f32[3] [0.5, 2.0, 1.0]
        %a = Binary(fn="mul")(%x, %c) : f32[2, 3]
        %y = MatMul()(%a, %w) : f32[2, 2]
        output y = %y
    """, """
        input %x: f32[2, 3]
        %weights = constant f32[3, 2] [0.5, 1.0, 6.0, 8.0, 5.0, 6.0]
        %matmul = MatMul()(%x, %weights) : f32[2, 2]
        output y = %matmul
    """)


def test_terms_before_a_product() -> None:
    check_pass(FoldScale(), """
        input %x: f32[2, 3]
        %w = constant f32[3, 2] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %c = constant f32[3] [0.5, 2.0, 1.0]
        %a = Binary(fn="add")(%x, %c) : f32[2, 3]
        %y = MatMul()(%a, %w) : f32[2, 2]
        output y = %y
    """, """
        input %x: f32[2, 3]
        %weights = constant f32[3, 2] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %matmul = MatMul()(%x, %weights) : f32[2, 2]
        %weights.1 = constant f32[2] [11.5, 15.0]
        %binary = Binary(fn="add")(%matmul, %weights.1) : f32[2, 2]
        output y = %binary
    """)


def test_the_bias_of_a_product_before_a_product_stays() -> None:
    check_unchanged(FoldScale(), """
        input %x: f32[2, 2]
        %w = constant f32[2, 2] [1.0, 2.0, 3.0, 4.0]
        %b = constant f32[2] [1.0, 0.5]
        %m = MatMul()(%x, %w) : f32[2, 2]
        %a = Binary(fn="add")(%m, %b) : f32[2, 2]
        %y = MatMul()(%a, %w) : f32[2, 2]
        output y = %y
    """)


def test_products_of_activations_stay() -> None:
    check_unchanged(FoldScale(), """
        input %x: f32[2, 3]
        input %z: f32[3, 2]
        %half = constant f32[] [0.5]
        %m = MatMul()(%x, %z) : f32[2, 2]
        %y = Binary(fn="mul")(%m, %half) : f32[2, 2]
        output y = %y
    """, "weights are not constant")


def test_a_term_before_a_padded_convolution_stays() -> None:
    check_unchanged(FoldScale(), """
        input %x: f32[2, 1, 6]
        %w = constant f32[2, 1, 3] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %c = constant f32[] [0.5]
        %a = Binary(fn="add")(%x, %c) : f32[2, 1, 6]
        %y = Conv(strides=(1,), dilations=(1,), pads=((1, 1),), groups=1)(%a, %w, _) : f32[2, 2, 6]
        output y = %y
    """)


def test_factors_that_vary_by_row_stay() -> None:
    check_unchanged(FoldScale(), """
        input %x: f32[2, 3]
        %w = constant f32[3, 2] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %c = constant f32[2, 1] [0.5, 2.0]
        %a = Binary(fn="mul")(%x, %c) : f32[2, 3]
        %m = MatMul()(%a, %w) : f32[2, 2]
        %y = Binary(fn="mul")(%m, %c) : f32[2, 2]
        output y = %y
    """, "not one number a channel")


def test_factors_before_a_grouped_convolution() -> None:
    graph = graph_of("""
        input %x: f32[2, 4, 6]
        %w = constant f32[4, 2, 2] [1.0, 2.0, 3.0, 4.0, -1.0, 0.5, 0.25, 1.0, 2.0, -3.0, 1.5, 0.0, 1.0, 1.0, -2.0, 5.0]
        %c = constant f32[4, 1] [0.5, 2.0, -1.0, 3.0]
        %a = Binary(fn="div")(%x, %c) : f32[2, 4, 6]
        %y = Conv(strides=(1,), dilations=(1,), pads=((1, 1),), groups=2)(%a, %w, _) : f32[2, 4, 7]
        output y = %y
    """)
    assert run_and_compare(FoldScale(), graph).rewrites == {"scale_before": 1}
    assert len(graph.nodes) == 1
