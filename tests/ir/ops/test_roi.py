"""RoiAlign and GridSample: inference, rejections, and values that can be seen by eye."""
import numpy as np
import pytest

from dlc.errors import ShapeError
from dlc.ir.dims import Symbol, to_text
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError
from dlc.ir.ops.grid_sample import GridSample
from dlc.ir.ops.roi import RoiAlign
from dlc.ir.types import TensorType
from tests.helpers.operators import run_one

N, R = Symbol("n"), Symbol("r")
RAMP = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)


def f32(*shape):
    return TensorType(DType.F32, shape)


def i64(*shape):
    return TensorType(DType.I64, shape)


def test_inference_with_symbolic_extents():
    (type_,) = RoiAlign("avg", 2, 3, 0, 1.0, True).infer([f32(N, 8, 5, 6), f32(R, 4), i64(R)])
    assert [to_text(dim) for dim in type_.shape] == ["r", "8", "2", "3"]
    (type_,) = GridSample("linear", "zeros", False).infer([f32(N, 3, 5, 6), f32(N, 7, R, 2)])
    assert [to_text(dim) for dim in type_.shape] == ["n", "3", "7", "r"]


@pytest.mark.parametrize("op, types, words", [
    (RoiAlign("mean", 1, 1, 0, 1.0, True), [f32(1, 1, 2, 2), f32(1, 4), i64(1)], "mean"),
    (RoiAlign("avg", 0, 1, 0, 1.0, True), [f32(1, 1, 2, 2), f32(1, 4), i64(1)], "make no result"),
    (RoiAlign("avg", 1, 1, 0, 1.0, True), [f32(1, 2, 2), f32(1, 4), i64(1)], r"\[N, C, H, W\]"),
    (RoiAlign("avg", 1, 1, 0, 1.0, True), [f32(1, 1, 2, 2), f32(1, 5), i64(1)], "rois"),
    (RoiAlign("avg", 1, 1, 0, 1.0, True), [f32(1, 1, 2, 2), f32(1, 4), i64(2)], "batch indices"),
    (GridSample("area", "zeros", False), [f32(1, 1, 2, 2), f32(1, 3, 3, 2)], "area"),
    (GridSample("linear", "wrap", False), [f32(1, 1, 2, 2), f32(1, 3, 3, 2)], "wrap"),
    (GridSample("linear", "zeros", False), [f32(1, 1, 2, 2), f32(1, 3, 3, 3)], "the axes of the operand"),
    (GridSample("linear", "zeros", False), [f32(1, 1, 2, 2), f32(2, 3, 3, 2)], "batch"),
    (GridSample("linear", "zeros", False), [i64(1, 1, 2, 2), f32(1, 3, 3, 2)], "cannot sample"),
])
def test_rejections(op, types, words):
    with pytest.raises(InferenceError, match=words):
        op.infer(types)


def test_roi_align_of_a_ramp_is_its_value_in_the_bins_centres():
    roi = np.float32([[0.5, 0.5, 2.5, 2.5]])
    y = run_one(RoiAlign("avg", 2, 2, 2, 1.0, True), RAMP, roi, np.array([0]))
    # Without the half pixel the roi is [0, 2] x [0, 2]; its bins have their centres at 0.5 and 1.5.
    assert y.reshape(2, 2).tolist() == [[2.5, 3.5], [6.5, 7.5]]


def test_roi_align_outside_of_the_image():
    far = np.float32([[100, 100, 104, 104]])
    assert run_one(RoiAlign("avg", 1, 1, 1, 1.0, True), RAMP, far, np.array([0])).tolist() == [[[[0]]]]
    near = np.float32([[-0.9, -0.9, -0.5, -0.5]])
    # Up to one pixel outside the border is read.
    assert run_one(RoiAlign("avg", 1, 1, 1, 1.0, False), RAMP + 5, near, np.array([0])).reshape(()) == 5


def test_regions_without_samples_are_zero():
    upside_down = np.float32([[3, 3, 1, 1]])
    for mode in ("avg", "max"):
        y = run_one(RoiAlign(mode, 2, 2, 0, 1.0, True), RAMP, upside_down, np.array([0]))
        assert not y.any()


def test_grid_of_the_centres_is_the_identity():
    centres = np.float32([-0.75, -0.25, 0.25, 0.75])
    corners = np.linspace(-1, 1, 4, dtype=np.float32)
    for align, line in ((False, centres), (True, corners)):
        grid = np.stack(np.meshgrid(line, line), axis=-1)[None].astype(np.float32)
        for mode in ("nearest", "linear", "cubic"):
            for padding in ("zeros", "border", "reflection"):
                y = run_one(GridSample(mode, padding, align), RAMP, grid)
                np.testing.assert_allclose(y, RAMP, atol=1e-5)


@pytest.mark.parametrize("padding, expected", [("zeros", 0), ("border", 12), ("reflection", 13)])
def test_positions_outside(padding, expected):
    # x = -1.25 pixels beyond the left edge's centre, y on the last row.
    grid = np.float32([[[[-2.0, 0.75]]]])
    y = run_one(GridSample("nearest", padding, False), RAMP, grid)
    assert y.reshape(()) == expected


def test_grid_sample_of_nothing():
    op, grid = GridSample("linear", "border", False), np.zeros((1, 1, 3, 2), np.float32)
    assert run_one(op, RAMP, grid[:, :0]).shape == (1, 1, 0, 3)
    with pytest.raises(ShapeError, match="no elements"):
        op.evaluate([RAMP[:, :, :0], grid], int)


def test_grid_sample_of_a_single_element_with_aligned_corners():
    x, grid = np.float32([[[[7]]]]), np.float32([[[[-3, 0.5]]]])
    for padding in ("border", "reflection"):
        assert run_one(GridSample("nearest", padding, True), x, grid).reshape(()) == 7
