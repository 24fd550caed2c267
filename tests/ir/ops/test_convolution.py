"""Inference of convolutions and pools, symbolic and static, and their agreement with the evaluation."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dlc.errors import ShapeError
from dlc.ir.dims import Symbol, evaluate
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError
from dlc.ir.ops.convolution import Conv, ConvTranspose, Pool
from dlc.ir.ops.deformable import DeformConv
from dlc.ir.ops.windows import output_extent, same_padding
from dlc.ir.types import TensorType

N = Symbol("n", 1)


def f32(*shape: Any) -> TensorType:
    """A float tensor type."""
    return TensorType(DType.F32, shape)


Window = tuple[int, int, int, int, tuple[int, int]]
windows = st.tuples(st.integers(1, 30), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3),
                    st.tuples(st.integers(0, 3), st.integers(0, 3)))


@settings(deadline=None)
@given(windows, st.booleans())
def test_extent_counts_the_windows(window: Window, ceil_mode: bool) -> None:
    extent, kernel, stride, dilation, (before, after) = window
    covered = (kernel - 1) * dilation + 1
    if extent + before + after < covered:
        return
    starts = range(0, extent + before + after, stride)
    inside = [start for start in starts if start + covered <= extent + before + after]
    if ceil_mode and (extent + before + after - covered) % stride and len(inside) * stride < extent + before:
        inside.append(len(inside) * stride)
    if ceil_mode:
        inside = [start for start in inside if start < extent + before]
    assert output_extent(extent, kernel, stride, dilation, (before, after), ceil_mode) == len(inside)
    symbolic = output_extent(N, kernel, stride, dilation, (before, after), ceil_mode)
    assert evaluate(symbolic, {"n": extent}) == len(inside)


@settings(deadline=None)
@given(windows, st.booleans())
def test_same_padding_keeps_the_extent(window: Window, upper: bool) -> None:
    extent, kernel, stride, dilation, _ = window
    pads = same_padding(extent, kernel, stride, dilation, upper)
    assert output_extent(extent, kernel, stride, dilation, pads) == -(-extent // stride)
    assert 0 <= (pads[1] - pads[0] if upper else pads[0] - pads[1]) <= 1
    symbolic = same_padding(N, kernel, stride, dilation, upper)
    assert tuple(evaluate(pad, {"n": extent}) for pad in symbolic) == pads


def test_symbolic_shapes_pass_through() -> None:
    conv = Conv((2, 1), (1, 1), ((1, 1), (0, 0)), 2)
    assert conv.infer([f32(N, 4, 2 * N, 9), f32(6, 2, 3, 3), f32(6)]) == (f32(N, 6, N, 7),)
    transposed = ConvTranspose((2,), (1,), ((1, 1),), (1,))
    assert transposed.infer([f32(1, 4, N), f32(4, 6, 3), None]) == (f32(1, 6, 2 * N),)


@pytest.mark.parametrize("shapes", [
    [(1, 3, 8), (4, 3, 3, 3)], [(1, 3, 8, 8), (4, 2, 3, 3)], [(1, 3, 2, 8), (4, 3, 3, 3)],
    [(1, 3, 8, 8), (4, 3, 3, 3), (3,)], [(1, 3, 8, 8), (4, 3, 3, 3), (4, 1)],
])
def test_convolutions_that_do_not_fit(shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(InferenceError):
        Conv((1, 1), (1, 1), ((0, 0), (0, 0))).infer([f32(*shape) for shape in shapes])


def test_a_window_that_does_not_fit_at_run_time_is_an_error() -> None:
    pool = Pool("max", (5,), (1,), (1,), ((0, 0),))
    with pytest.raises((ShapeError, InferenceError)):
        pool.evaluate([np.zeros((1, 1, 3), np.float32)], int)


@pytest.mark.parametrize("x, y", [((0, 4, 3, 5), (0, 6, 4, 6)), ((2, 4, 0, 5), (2, 6, 1, 6))])
def test_transposed_convolutions_of_nothing(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    """No images, or none of their rows: what the kernel alone reaches is the bias."""
    op = ConvTranspose((1, 1), (1, 1), ((0, 0), (0, 0)), (0, 0), 2)
    operands = [np.zeros(x, np.float32), np.ones((4, 3, 2, 2), np.float32), np.arange(6, dtype=np.float32)]
    (result,) = op.evaluate(operands, int)
    assert result.shape == y and result.dtype == np.float32
    np.testing.assert_array_equal(result, np.broadcast_to(operands[2].reshape(1, 6, 1, 1), y))


def test_deformable_convolution_of_nothing() -> None:
    op = DeformConv((1, 1), (1, 1), ((0, 0), (0, 0)), 1, 2)
    shapes = [(0, 4, 5, 5), (6, 4, 2, 2), (0, 16, 4, 4)]
    (result,) = op.evaluate([np.zeros(shape, np.float32) for shape in shapes], int)
    assert result.shape == (0, 6, 4, 4)


def test_integer_convolution_is_exact() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.integers(0, 256, (1, 40, 6), np.uint8), rng.integers(-128, 128, (3, 40, 3), np.int8)
    conv = Conv((1,), (1,), ((1, 1),))
    assert conv.infer([TensorType(DType.U8, x.shape), TensorType(DType.I8, w.shape)]) \
        == (TensorType(DType.I32, (1, 3, 6)),)
    padded = np.pad(x.astype(np.int64), [(0, 0), (0, 0), (1, 1)])
    wide = w.astype(np.int64)
    exact = sum(np.einsum("oc,nct->not", wide[:, :, k], padded[:, :, k:k + 6]) for k in range(3))
    (y,) = conv.evaluate([x, w], int)
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, exact)


def test_wide_integers_wrap() -> None:
    x = np.full((1, 1, 3), 2**30, np.int32)
    w = np.full((1, 1, 3), 2**20 + 1, np.int32)
    (y,) = Conv((1,), (1,), ((0, 0),)).evaluate([x, w], int)
    assert int(y[0, 0, 0]) == (3 * 2**30 * (2**20 + 1) + 2**31) % 2**32 - 2**31


def test_narrow_floats_are_summed_in_float32() -> None:
    x = np.full((1, 4096, 1), 1, np.float16)
    w = np.full((1, 4096, 1), 1, np.float16)
    (y,) = Conv((1,), (1,), ((0, 0),)).evaluate([x, w], int)
    assert y.dtype == np.float16 and y.item() == 4096


@pytest.mark.parametrize("fn, dtype", [("average", DType.I8), ("max", DType.BOOL), ("lp", DType.I32)])
def test_pools_of_types_without_a_meaning(fn: str, dtype: DType) -> None:
    with pytest.raises(InferenceError):
        Pool(fn, (2,), (1,), (1,), ((0, 0),)).infer([TensorType(dtype, (1, 1, 4))])


def test_work_of_a_convolution() -> None:
    conv = Conv((1, 1), (1, 1), ((0, 0), (0, 0)))
    operands = [f32(N, 4, 8, 8), f32(6, 4, 3, 3)]
    assert conv.flops(operands, conv.infer(operands)) == N * 6 * 36 * 36 * 2
