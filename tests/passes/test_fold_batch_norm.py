# ruff: noqa: E501 - the text of operators is long
"""BatchNorm into weights: every contraction, and where it stays two pointwise nodes."""
from __future__ import annotations

import pytest

from dlc.passes.fold_batch_norm import FoldBatchNorm
from tests.helpers.passes import check_pass, check_unchanged, graph_of, run_and_compare


def test_into_a_convolution() -> None:
    check_pass(FoldBatchNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 1, 6]
        %w = constant f32[2, 1, 3] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]

        %scale = constant f32[2] [1.0, 2.0]
        %bias = constant f32[2] [0.5, -1.0]
        %mean = constant f32[2] [0.25, 1.0]
        %variance = constant f32[2] [0.99, 3.99]

        %c = Conv(strides=(1,), dilations=(1,), pads=((1, 1),), groups=1)(%x, %w, _) : f32[n, 2, 6] @ "conv"
        %y = BatchNorm(epsilon=0.01)(%c, %scale, %bias, %mean, %variance) : f32[n, 2, 6] @ "norm"
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 1, 6]
        %weights = constant f32[2, 1, 3] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %weights.1 = constant f32[2] [0.25, -2.0]
        %conv = Conv(strides=(1,), dilations=(1,), pads=((1, 1),), groups=1)(%x, %weights, %weights.1) : f32[n, 2, 6] @ "conv", "norm"
        output y = %conv
    """)


def test_into_a_product() -> None:
    check_pass(FoldBatchNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 3]
        %w = constant f32[3, 2] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %b = constant f32[2] [1.0, 0.5]

        %scale = constant f32[2] [1.0, 2.0]
        %bias = constant f32[2] [0.5, -1.0]
        %mean = constant f32[2] [0.25, 1.0]
        %variance = constant f32[2] [0.99, 3.99]

        %m = MatMul()(%x, %w) : f32[n, 2]
        %a = Binary(fn="add")(%m, %b) : f32[n, 2]
        %y = BatchNorm(epsilon=0.01)(%a, %scale, %bias, %mean, %variance) : f32[n, 2]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 3]
        %weights = constant f32[3, 2] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %matmul = MatMul()(%x, %weights) : f32[n, 2]
        %weights.1 = constant f32[2] [1.25, -1.5]
        %binary = Binary(fn="add")(%matmul, %weights.1) : f32[n, 2]
        output y = %binary
    """)


def test_after_something_else_two_pointwise_nodes_remain() -> None:
    check_pass(FoldBatchNorm(), """
        symbol n = shape(%x, 0)
        input %x: f32[n, 2, 6]

        %scale = constant f32[2] [1.0, 2.0]
        %bias = constant f32[2] [0.5, -1.0]
        %mean = constant f32[2] [0.25, 1.0]
        %variance = constant f32[2] [0.99, 3.99]

        %r = Unary(fn="relu")(%x) : f32[n, 2, 6]
        %y = BatchNorm(epsilon=0.01)(%r, %scale, %bias, %mean, %variance) : f32[n, 2, 6]
        output y = %y
    """, """
        symbol n = shape(%x, 0)
        input %x: f32[n, 2, 6]
        %r = Unary(fn="relu")(%x) : f32[n, 2, 6]
        %const = constant f32[2, 1] [1.0, 1.0]
        %binary = Binary(fn="mul")(%r, %const) : f32[n, 2, 6]
        %const.1 = constant f32[2, 1] [0.25, -2.0]
        %binary.1 = Binary(fn="add")(%binary, %const.1) : f32[n, 2, 6]
        output y = %binary.1
    """)


def test_computed_parameters_stay() -> None:
    check_unchanged(FoldBatchNorm(), """
        input %x: f32[4, 2]
        input %p: f32[2]
        %y = BatchNorm(epsilon=0.01)(%x, %p, %p, %p, %p) : f32[4, 2]
        output y = %y
    """, "not constant")


def test_a_convolution_that_others_read_keeps_its_weights() -> None:
    graph = graph_of("""
        input %x: f32[1, 1, 6]
        %w = constant f32[2, 1, 3] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %scale = constant f32[2] [1.0, 2.0]
        %bias = constant f32[2] [0.5, -1.0]
        %c = Conv(strides=(1,), dilations=(1,), pads=((0, 0),), groups=1)(%x, %w, _) : f32[1, 2, 4]
        %y = BatchNorm(epsilon=0.01)(%c, %scale, %bias, %bias, %scale) : f32[1, 2, 4]
        output y = %y
        output c = %c
    """)
    statistics = run_and_compare(FoldBatchNorm(), graph)
    assert statistics.rewrites == {"batch_norm_to_pointwise": 1}
    assert not statistics.declines, "the declining node is gone"


@pytest.mark.parametrize("convolution, length", [
    ("Conv(strides=(1,), dilations=(1,), pads=((1, 1),), groups=2)", 7),
    ("ConvTranspose(strides=(2,), dilations=(1,), pads=((1, 1),), output_padding=(0,), groups=2)", 10),
])
def test_into_grouped_and_transposed_convolutions(convolution: str, length: int) -> None:
    graph = graph_of(f"""
        input %x: f32[2, 4, 6]
        %w = constant f32[4, 2, 2] [1.0, 2.0, 3.0, 4.0, -1.0, 0.5, 0.25, 1.0, 2.0, -3.0, 1.5, 0.0, 1.0, 1.0, -2.0, 5.0]
        %scale = constant f32[4] [1.0, 2.0, -0.5, 3.0]
        %bias = constant f32[4] [0.5, -1.0, 0.0, 2.0]
        %variance = constant f32[4] [0.5, 1.0, 0.1, 2.0]
        %c = {convolution}(%x, %w, %bias) : f32[2, 4, {length}]
        %y = BatchNorm(epsilon=0.01)(%c, %scale, %bias, %bias, %variance) : f32[2, 4, {length}]
        output y = %y
    """)
    statistics = run_and_compare(FoldBatchNorm(), graph)
    assert statistics.rewrites == {"batch_norm_into_weights": 1} and len(graph.nodes) == 1


def test_overflowing_weights_stay() -> None:
    graph = graph_of("""
        input %x: f16[1, 1, 6]
        %w = constant f16[2, 1, 3] [60000.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        %scale = constant f16[2] [100.0, 2.0]
        %bias = constant f16[2] [0.5, -1.0]
        %variance = constant f16[2] [1.0, 1.0]
        %c = Conv(strides=(1,), dilations=(1,), pads=((0, 0),), groups=1)(%x, %w, _) : f16[1, 2, 4]
        %y = BatchNorm(epsilon=0.01)(%c, %scale, %bias, %bias, %variance) : f16[1, 2, 4]
        output y = %y
    """)
    assert FoldBatchNorm().run(graph).rewrites == {"batch_norm_to_pointwise": 1}
