"""Operators between DequantizeLinear and QuantizeLinear on integers: structure, and onnxruntime's bytes."""
from __future__ import annotations

import collections
import itertools
from typing import Any

import numpy as np
import pytest

from dlc.ir.dtypes import DType
from dlc.ir.graph import Graph
from dlc.passes.raise_quantized import RaiseQuantized
from tests.helpers.passes import check_pass, check_unchanged
from tests.helpers.quantized_models import (
    Layers,
    f32,
    onnxruntime_results,
    raised,
    random_feeds,
    results,
)

pytest.importorskip("onnxruntime")

U8, I8, I32 = np.uint8, np.int8, np.int32

#: Zero points at the ends, near them and in the middle.
ZEROS: dict[Any, list[int]] = {U8: [0, 1, 127, 128, 255], I8: [-128, -1, 0, 1, 127]}


def same_bytes(
    layers: Layers, *outputs: str, stays_real: bool = False, steps: int = 0, **sizes: int
) -> Graph:
    """dlc's results are onnxruntime's to the byte; returns the graph, which computes on integers.

    Where onnxruntime computes in floats, one number of a hundred may be `steps` apart.
    """
    model = layers.model(*outputs)
    graph, _ = raised(model)
    for seed in range(2):
        feeds = random_feeds(model, seed, **sizes)
        expected = onnxruntime_results(model, feeds)
        for found, wanted in zip(results(graph, feeds), expected, strict=True):
            assert found.dtype == wanted.dtype
            np.testing.assert_allclose(found.astype(float), wanted.astype(float), rtol=0, atol=steps)
            assert (found == wanted).mean() >= (0.99 if steps else 1)
    assert stays_real or not operators(graph)["DequantizeLinear"]
    return graph


def operators(graph: Graph) -> collections.Counter[str]:
    """How often each operator occurs."""
    return collections.Counter(node.op.name for node in graph.nodes)


def integers(dtype: Any, shape: tuple[int, ...], seed: int = 0, low: int | None = None) -> Any:
    """Random numbers of an integer type, from `low` (its smallest) on, and as far up."""
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    return rng.integers(limits.min if low is None else low, limits.max + 1, shape).astype(dtype)


def test_structure() -> None:
    check_pass(RaiseQuantized(), """
        input %x: u8[2, 3]
        %w = constant i8[3, 2] [1, -2, 3, 4, 5, -6]
        %sx = constant f32[] [0.5]
        %zx = constant u8[] [7]
        %sw = constant f32[2] [0.25, 0.125]
        %b = constant i32[2] [10, -20]
        %sb = constant f32[2] [0.125, 0.0625]
        %sy = constant f32[] [0.5]
        %zy = constant u8[] [9]
        %1 = DequantizeLinear(axis=0, block_size=0, to=f32)(%x, %sx, %zx) : f32[2, 3]
        %2 = DequantizeLinear(axis=1, block_size=0, to=f32)(%w, %sw, _) : f32[3, 2]
        %3 = DequantizeLinear(axis=0, block_size=0, to=f32)(%b, %sb, _) : f32[2]
        %4 = MatMul()(%1, %2) : f32[2, 2]
        %5 = Binary(fn="add")(%4, %3) : f32[2, 2]
        %y = QuantizeLinear(axis=0, block_size=0, to=u8)(%5, %sy, %zy) : u8[2, 2]
        output y = %y
    """, """
        input %x: u8[2, 3]
        %cast = Cast(to=i32)(%x) : i32[2, 3]
        %zx = constant u8[] [7]
        %cast.1 = Cast(to=i32)(%zx) : i32[]
        %binary = Binary(fn="sub")(%cast, %cast.1) : i32[2, 3]
        %w = constant i8[3, 2] [1, -2, 3, 4, 5, -6]
        %cast.2 = Cast(to=i32)(%w) : i32[3, 2]
        %matmul = MatMul()(%binary, %cast.2) : i32[2, 2]
        %b = constant i32[2] [10, -20]
        %binary.1 = Binary(fn="add")(%matmul, %b) : i32[2, 2]
        %cast.3 = Cast(to=f32)(%binary.1) : f32[2, 2]
        %scale = constant f32[2] [0.25, 0.125]
        %binary.2 = Binary(fn="mul")(%cast.3, %scale) : f32[2, 2]
        %const = constant f32[] [1.0]
        %zy = constant u8[] [9]
        %quantizelinear = QuantizeLinear(axis=0, block_size=0, to=u8)(%binary.2, %const, %zy) : u8[2, 2]
        output y = %quantizelinear
    """)


#: (spatial extents, filters, channels of the filters, kernel, attributes)
CONVOLUTIONS: list[tuple[tuple[int, ...], int, int, tuple[int, ...], dict[str, Any]]] = [
    ((9, 7), 8, 5, (1, 1), {}),
    ((9, 7), 6, 5, (3, 3), {"pads": [1, 1, 1, 1]}),
    ((9, 8), 6, 5, (3, 2), {"pads": [1, 0, 0, 1], "strides": [2, 1]}),
    ((9, 7), 10, 1, (3, 3), {"pads": [1, 1, 1, 1], "group": 5}),
    ((11, 9), 6, 3, (3, 3), {"pads": [2, 2, 2, 2], "dilations": [2, 2], "group": 2}),
    ((13,), 4, 3, (5,), {"pads": [2, 2], "strides": [2]}),
]


@pytest.mark.parametrize("index", range(len(CONVOLUTIONS)))
@pytest.mark.parametrize("types", [(U8, I8), (U8, U8), (I8, I8)], ids=["u8s8", "u8u8", "s8s8"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_convolution(index: int, types: tuple[Any, Any], per_channel: bool) -> None:
    space, filters, channels, kernel, attributes = CONVOLUTIONS[index]
    x_type, w_type = types
    layers = Layers()
    groups = attributes.get("group", 1)
    x = layers.input(x_type, (2, channels * groups, *space))
    zero = x_type(ZEROS[x_type][index % 5])
    # Quantized weights of a type that is signed lie around 0.
    w_zero = w_type(0 if w_type is I8 else 128 - index)
    count = filters if per_channel else 1
    w_scale = (np.linspace(0.01, 0.03, count) if per_channel else np.array(0.02)).astype(f32)
    w_zeros = np.full(w_scale.shape, w_zero)
    w = layers.constant(integers(w_type, (filters, channels, *kernel), index))
    bias = layers.constant(np.random.default_rng(index).integers(-9000, 9000, filters), I32)
    axis = 0 if per_channel else None
    real = [
        layers.real(x, 0.05, zero),
        layers.real(w, w_scale, w_zeros, axis),
        layers.real(bias, f32(0.05) * w_scale, np.zeros(w_scale.shape, I32), axis),
    ]
    y = layers.add("Conv", *(real if index % 3 else real[:2]), kernel_shape=kernel, **attributes)
    scale = f32(0.04 * np.sqrt(channels * np.prod(kernel)))
    out = layers.stored(y, scale, x_type(ZEROS[x_type][index % 4]))
    # On x86-64 onnxruntime does not take i8 activations for integer operators.
    graph = same_bytes(layers, out, steps=int(x_type is I8))
    (conv,) = (node for node in graph.nodes if node.op.name == "Conv")
    # Depthwise convolutions sum integers in floats.
    assert conv.output.tensor.dtype is (DType.F32 if channels == 1 else DType.I32)


def test_depthwise_sums_beyond_f32() -> None:
    layers = Layers()
    x = layers.real(layers.input(U8, (1, 4, 6, 6)), 0.5, U8(128))
    w = layers.real(layers.constant(integers(I8, (4, 1, 3, 3))), 0.5, I8(0))
    bias = layers.real(layers.constant([1, -(1 << 24), 0, 5], I32), 0.25, I32(0))
    y = layers.stored(layers.add("Conv", x, w, bias, group=4), 4e4, U8(200))
    graph = same_bytes(layers, y)
    (conv,) = (node for node in graph.nodes if node.op.name == "Conv")
    assert conv.output.tensor.dtype is DType.I32


@pytest.mark.parametrize(
    ("activation", "zero"), [("Relu", 0), ("Relu", 100), ("Clip", 0), ("Clip", 30)]
)
def test_clipped_convolution(activation: str, zero: int) -> None:
    """A clip to what the type has disappears; another goes to the integers."""
    layers = Layers()
    x = layers.real(layers.input(U8, (1, 4, 6, 6)), 0.05, U8(128))
    w = layers.real(layers.constant(integers(I8, (5, 4, 3, 3))), 0.02, I8(0))
    y = layers.add("Conv", x, w)
    bounds = [layers.constant(0, f32), layers.constant(6, f32)] if activation == "Clip" else []
    out = layers.stored(layers.add(activation, y, *bounds), 6 / 255, U8(zero))
    graph = same_bytes(layers, out)
    assert operators(graph)["Clip"] == (zero > 0)


@pytest.mark.parametrize("types", list(itertools.product((U8, I8), repeat=2)))
@pytest.mark.parametrize("per_column", [False, True])
def test_matmul(types: tuple[Any, Any], per_column: bool) -> None:
    a_type, b_type = types
    for place, zero in enumerate(ZEROS[a_type]):
        layers = Layers()
        a = layers.real(layers.input(a_type, ("n", 3, 40)), 0.03, a_type(zero))
        scale = np.linspace(0.01, 0.03, 24) if per_column else 0.02
        b_zero = np.full(np.shape(scale), 0 if b_type is I8 else 120 + place, b_type)
        b = layers.constant(integers(b_type, (40, 24), place))
        product = layers.add("MatMul", a, layers.real(b, scale, b_zero, 1 if per_column else None))
        out = layers.stored(product, 0.2, a_type(ZEROS[a_type][-place]))
        graph = same_bytes(layers, out, n=2, steps=int(a_type is I8))
        assert operators(graph)["MatMul"] == 1


def test_matmul_of_activations() -> None:
    layers = Layers()
    a = layers.real(layers.input(U8, ("n", 3, 7, 16)), 0.03, U8(3))
    b = layers.real(layers.input(U8, ("n", 3, 16, 5)), 0.01, U8(128))
    same_bytes(layers, layers.stored(layers.add("MatMul", a, b), 0.1, U8(120)), n=2)


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("rounded", [False, True])
def test_gemm(per_column: bool, rounded: bool) -> None:
    layers = Layers()
    a = layers.real(layers.input(U8, ("n", 40)), 0.03, U8(7))
    scale = (np.linspace(0.01, 0.03, 24) if per_column else np.array(0.02)).astype(f32)
    axis = 0 if per_column else None
    b = layers.real(layers.constant(integers(I8, (24, 40))), scale, np.zeros(scale.shape, I8), axis)
    c = layers.constant(np.arange(24) * 300 - 3000, I32)
    bias = layers.real(c, f32(0.03) * scale, np.zeros(scale.shape, I32), axis)
    y = layers.add("Gemm", a, b, bias, transB=1)
    graph = same_bytes(layers, layers.stored(y, 0.1, U8(99)) if rounded else y, n=3)
    assert operators(graph)["QuantizeLinear"] == rounded


def test_unrounded_product() -> None:
    """MatMulIntegerToFloat; the terms of a bias of floats are added to it."""
    layers = Layers()
    a = layers.real(layers.input(U8, ("n", 40)), 0.03, U8(7))
    b = layers.real(layers.constant(integers(I8, (40, 24))), 0.02, I8(0))
    product = layers.add("MatMul", a, b)
    same_bytes(layers, product, n=3)
    bias = layers.constant(np.linspace(-1, 1, 24), f32)
    graph, _ = raised(layers.model(layers.add("Add", product, bias)))
    assert not operators(graph)["DequantizeLinear"]


def test_ties_in_requantization() -> None:
    """Sums that are odd, times one half."""
    layers = Layers()
    x = layers.real(layers.input(U8, (64, 4)), 0.5, U8(128))
    w = layers.real(layers.constant(integers(I8, (4, 32))), 0.25, I8(0))
    same_bytes(layers, layers.stored(layers.add("MatMul", x, w), 0.25, U8(127)))
    layers = Layers()
    x = layers.real(layers.input(U8, (4, 1, 16, 16)), 1.0, U8(1))
    w = layers.real(layers.constant([[[[1]]], [[[3]]], [[[-1]]]], I8), 1.0, I8(0))
    same_bytes(layers, layers.stored(layers.add("Conv", x, w), 2.0, U8(255)))


#: Shapes of two operands; where one has a number for each row of the other, onnxruntime computes otherwise.
PAIRS = [((3, 40), (3, 40)), ((3, 40), (40,)), ((3, 40), (3, 1)), ((2, 3, 1), (2, 3, 33)), ((), (3, 40))]


@pytest.mark.parametrize("op_type", ["Add", "Mul"])
@pytest.mark.parametrize("dtype", [U8, I8])
@pytest.mark.parametrize("shapes", PAIRS)
def test_pair(op_type: str, dtype: Any, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    for place, zero in enumerate(ZEROS[dtype]):
        # Scales with many ties among the sums, then others.
        scales = (0.25, 0.25, 0.5) if place % 2 else (0.013, 0.031, 0.037)
        layers = Layers()
        a = layers.real(layers.input(dtype, shapes[0]), scales[0], dtype(zero))
        b = layers.real(layers.input(dtype, shapes[1]), scales[1], dtype(ZEROS[dtype][place - 1]))
        scale = scales[2] if op_type == "Add" else scales[2] * 8
        total = layers.add(op_type, a, b)
        same_bytes(layers, layers.stored(total, scale, dtype(ZEROS[dtype][place - 2])))


POOLS: list[dict[str, Any]] = [
    {"kernel_shape": [2, 2]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]},
    {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1},
]


@pytest.mark.parametrize("dtype", [U8, I8])
@pytest.mark.parametrize("window", range(len(POOLS)))
def test_average_pool(dtype: Any, window: int) -> None:
    for zero, scale in itertools.product(ZEROS[dtype], (0.05, 0.041)):
        layers = Layers()
        x = layers.real(layers.input(dtype, (2, 3, 9, 8)), 0.05, dtype(zero))
        y = layers.stored(layers.add("AveragePool", x, **POOLS[window]), scale, dtype(zero))
        same_bytes(layers, y, stays_real=True)


@pytest.mark.parametrize("dtype", [U8, I8])
def test_global_average_pool(dtype: Any) -> None:
    for place, zero in enumerate(ZEROS[dtype]):
        layers = Layers()
        x = layers.real(layers.input(dtype, ("n", 5, 7, 9)), 0.05, dtype(zero))
        y = layers.stored(layers.add("GlobalAveragePool", x), 0.01, dtype(ZEROS[dtype][place - 1]))
        graph = same_bytes(layers, y, n=2)
        assert operators(graph)["Reduce"] == 1


@pytest.mark.parametrize("same", [False, True])
def test_maxima_and_movement(same: bool) -> None:
    """With one scale the integers are moved as they are; with another they are rounded before."""
    layers = Layers()
    x = layers.real(layers.input(U8, (2, 3, 8, 8)), 0.05, U8(30))
    moved = layers.add("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    moved = layers.add("Transpose", moved, perm=[0, 2, 3, 1])
    moved = layers.add("Reshape", moved, layers.constant([2, 16, 3], np.int64))
    graph = same_bytes(layers, layers.stored(moved, 0.05 if same else 0.07, U8(30)), stays_real=not same)
    assert operators(graph)["QuantizeLinear"] == (not same)
    (pool,) = (node for node in graph.nodes if node.op.name == "Pool")
    assert pool.output.tensor.dtype is DType.U8


def test_concatenation() -> None:
    layers = Layers()
    a = layers.real(layers.input(U8, (2, 3, 8)), 0.05, U8(30))
    b = layers.real(layers.input(U8, (2, 2, 8)), 0.07, U8(10))
    joined = layers.stored(layers.add("Concat", a, b, axis=1), 0.05, U8(30))
    graph = same_bytes(layers, joined, stays_real=True)
    # The first has the scale of the result.
    assert operators(graph) == {"Concat": 1, "DequantizeLinear": 1, "QuantizeLinear": 1}


def product(layers: Layers, w_scale: Any = 0.02, bias_scale: Any = None, axis: int = 0) -> str:
    """A convolution of u8 and i8, not yet rounded."""
    x = layers.real(layers.input(U8, (1, 4, 6, 6)), 0.05, U8(128))
    zero = np.zeros(np.shape(w_scale), I8)
    w = layers.real(layers.constant(integers(I8, (4, 4, 3, 3))), w_scale, zero, axis if zero.ndim else None)
    bias = [] if bias_scale is None else [layers.real(layers.constant([1, 2, 3, 4], I32), bias_scale)]
    return layers.add("Conv", x, w, *bias)


def reasons(layers: Layers, *outputs: str, dot_products: bool = True) -> str:
    """Why the pass left something, and that a convolution is still one of floats."""
    graph, report = raised(layers.model(*outputs), dot_products=dot_products)
    (conv,) = (node for node in graph.nodes if node.op.name == "Conv")
    assert conv.output.tensor.dtype is DType.F32
    return "\n".join(decline.reason for step, decline in report.declines if step.name == RaiseQuantized.name)


def test_declines() -> None:
    layers = Layers()
    assert "is not the product" in reasons(layers, layers.stored(product(layers, 0.02, 0.5), 0.1, U8(0)))
    layers = Layers()
    scales = np.full(4, 0.02, f32)
    assert "output channels" in reasons(layers, layers.stored(product(layers, scales, axis=1), 0.1, U8(0)))
    layers = Layers()
    y = product(layers)
    found = reasons(layers, layers.stored(y, 0.1, U8(0)), dot_products=False)
    assert "no fast dot products" in found
    layers = Layers()
    x = layers.input(f32, (1, 4, 6, 6))
    w = layers.real(layers.constant(integers(I8, (4, 4, 3, 3))), 0.02, I8(0))
    assert "only one operand" in reasons(layers, layers.stored(layers.add("Conv", x, w), 0.1, U8(0)))


def test_other_readers() -> None:
    layers = Layers()
    x = layers.real(layers.input(U8, (4, 8)), 0.05, U8(128))
    y = layers.real(layers.input(U8, (4, 8)), 0.05, U8(3))
    total = layers.add("Add", x, y)
    _, report = raised(layers.model(layers.stored(total, 0.1, U8(0)), total))
    assert any("others read the result" in decline.reason for _, decline in report.declines)


def test_does_not_fire() -> None:
    # A scale that is no constant.
    check_unchanged(RaiseQuantized(), """
        input %x: u8[8]
        input %scale: f32[]
        %zero = constant u8[] [3]
        %a = DequantizeLinear(axis=0, block_size=0, to=f32)(%x, %scale, %zero) : f32[8]
        %b = Binary(fn="add")(%a, %a) : f32[8]
        %y = QuantizeLinear(axis=0, block_size=0, to=u8)(%b, %scale, %zero) : u8[8]
        output y = %y
    """)
    # Another scale: numbers change.
    check_unchanged(RaiseQuantized(), """
        input %x: u8[8]
        %s = constant f32[] [0.5]
        %t = constant f32[] [0.25]
        %zero = constant u8[] [3]
        %a = DequantizeLinear(axis=0, block_size=0, to=f32)(%x, %s, %zero) : f32[8]
        %y = QuantizeLinear(axis=0, block_size=0, to=u8)(%a, %t, %zero) : u8[8]
        output y = %y
    """)
