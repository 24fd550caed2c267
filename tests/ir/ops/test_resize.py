"""Resize: coordinates and weights on one axis, separability, precision, rejections."""
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dlc.errors import ShapeError
from dlc.ir.dims import Symbol, evaluate, to_text
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError
from dlc.ir.ops.resize import COORDINATES, Resize, cubic_kernel, nearest_position, source_coordinates
from dlc.ir.types import TensorType
from tests.helpers.operators import run_one

N = Symbol("n")


def resize(sizes, scales=None, mode="linear", coordinates="half_pixel", nearest="round_prefer_floor", a=-0.75,
           exclude=False, extrapolation=0.0, antialias=False):
    return Resize(tuple(sizes), tuple(scales or [None] * len(sizes)), mode, coordinates, nearest, a, exclude,
                  extrapolation, antialias)


@pytest.mark.parametrize("coordinates, extent, size, scale, expected", [
    ("asymmetric", 4, 8, 2, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]), ("half_pixel", 4, 2, 0.5, [0.5, 2.5]),
    ("pytorch_half_pixel", 4, 1, 0.25, [0]), ("half_pixel", 4, 1, 0.25, [1.5]),
    ("align_corners", 5, 3, 0.6, [0, 2, 4]), ("align_corners", 5, 1, 0.2, [0]),
    ("tf_half_pixel_for_nn", 2, 4, 2, [0.25, 0.75, 1.25, 1.75]),
    ("half_pixel_symmetric", 4, 2, 0.6, [2 / 3, 7 / 3]),
])
def test_coordinates(coordinates, extent, size, scale, expected):
    at = source_coordinates(coordinates, extent, size, np.float32(scale))
    assert at.dtype == np.float32
    np.testing.assert_allclose(at, expected, rtol=1e-6)


def test_coordinates_of_a_crop():
    window = (np.float32(0.25), np.float32(0.75))
    assert source_coordinates("tf_crop_and_resize", 5, 3, np.float32(1), window).tolist() == [1, 2, 3]
    assert source_coordinates("tf_crop_and_resize", 5, 1, np.float32(1), window).tolist() == [2]
    with pytest.raises(ShapeError, match="region of interest"):
        source_coordinates("tf_crop_and_resize", 5, 1, np.float32(1))


@pytest.mark.parametrize("nearest, expected", [
    ("round_prefer_floor", [0, 0, 1, 1, 2]), ("round_prefer_ceil", [0, 1, 1, 2, 2]),
    ("floor", [0, 0, 0, 1, 2]), ("ceil", [1, 1, 1, 2, 2]),
])
def test_rounding(nearest, expected):
    at = np.array([0.25, 0.5, 0.75, 1.5, 2.0], dtype=np.float32)
    assert nearest_position(at, nearest).tolist() == expected
    # A tie that rounding has moved by a few units in the last place is still a tie.
    assert nearest_position(at + np.float32([0, 5e-7, 0, 5e-7, 0]), nearest).tolist() == expected
    assert nearest_position(at - np.float32([0, 5e-7, 0, 5e-7, 0]), nearest).tolist() == expected


@given(fraction=st.floats(0, 1), a=st.floats(-1, 1))
def test_cubic_weights_sum_to_one(fraction, a):
    distances = np.abs(np.arange(-1, 3) - fraction).astype(np.float32)
    assert abs(cubic_kernel(distances, a).sum() - 1) < 1e-5


@settings(max_examples=40, deadline=None)
@given(extent=st.integers(1, 9), size=st.integers(1, 20), coordinates=st.sampled_from(COORDINATES[:-1]),
       mode=st.sampled_from(["linear", "cubic"]), exclude=st.booleans(), antialias=st.booleans())
def test_constants_stay_constant(extent, size, coordinates, mode, exclude, antialias):
    op = resize([size], mode=mode, coordinates=coordinates, exclude=exclude, antialias=antialias)
    np.testing.assert_allclose(run_one(op, np.full(extent, 3, np.float32)), np.full(size, 3), rtol=2e-5)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), mode=st.sampled_from(["nearest", "linear", "cubic"]),
       coordinates=st.sampled_from(COORDINATES[:-1]))
def test_axes_are_independent(data, mode, coordinates):
    extents = [data.draw(st.integers(1, 5)) for _ in range(2)]
    sizes = [data.draw(st.integers(1, 7)) for _ in range(2)]
    x = np.random.default_rng(0).standard_normal(extents)
    both = run_one(resize(sizes, mode=mode, coordinates=coordinates), x)
    rows = run_one(resize([sizes[0], extents[1]], mode=mode, coordinates=coordinates), x)
    columns = run_one(resize(sizes, mode=mode, coordinates=coordinates), rows)
    np.testing.assert_allclose(columns, both, atol=1e-12)


def test_the_same_extent_gives_the_same_bits():
    x = np.float32([[1, np.nan, np.inf], [-0.0, 1e-45, 3]])
    for mode in ("nearest", "linear", "cubic"):
        for coordinates in COORDINATES[:-1]:
            y = run_one(resize([2, 3], mode=mode, coordinates=coordinates), x)
            assert y.tobytes() == x.tobytes()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_are_rounded_once(dtype):
    x = np.random.default_rng(0).standard_normal((5, 6)).astype(dtype)
    op = resize([7, 4], mode="cubic")
    expected = run_one(op, x.astype(np.float32)).astype(dtype)
    assert run_one(op, x).tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_integers_are_truncated_and_saturated(dtype):
    info = np.iinfo(dtype)
    x = np.array([info.min, info.max, info.max, info.min, 0, 3], dtype=dtype)
    y = run_one(resize([13], mode="cubic"), x)
    assert y.dtype == dtype and y.min() >= info.min and y.max() <= info.max
    wider = resize([3], [1.5], coordinates="asymmetric")
    assert run_one(wider, np.array([0, 4], dtype)).tolist() == [0, 2, 4]


def test_antialias_averages_when_it_reduces():
    x = np.arange(8, dtype=np.float32)
    assert run_one(resize([2]), x).tolist() == [1.5, 5.5]
    # Weights (1, 3, 5, 7, 7, 5, 3, 1) / 32 around 1.5; the first two lie before element 0 and read it.
    assert run_one(resize([2], antialias=True), x).tolist() == [53 / 32, 7 - 53 / 32]
    # Left out instead, they leave (5, 7, 7, 5, 3, 1) / 28.
    np.testing.assert_allclose(run_one(resize([2], antialias=True, exclude=True), x), [53 / 28, 7 - 53 / 28])


def test_symbolic_sizes():
    op = resize([N, 4], [2.0, None])
    (type_,) = op.infer([TensorType(DType.F32, (3, N))])
    assert [to_text(dim) for dim in type_.shape] == ["n", "4"]
    (y,) = op.evaluate([np.ones((3, 2), np.float32)], lambda dim: evaluate(dim, {"n": 6}))
    assert y.shape == (6, 4)


def f32(*shape):
    return TensorType(DType.F32, shape)


@pytest.mark.parametrize("op, types, words", [
    (resize([2]), [f32(2, 3)], "2 entries"), (resize([2], mode="area"), [f32(2)], "area"),
    (resize([2], coordinates="corners"), [f32(2)], "corners"), (resize([2], nearest="up"), [f32(2)], "up"),
    (resize([-2]), [f32(2)], "negative"), (resize([2], [0.0]), [f32(2)], "positive"),
    (resize([2], mode="nearest", antialias=True), [f32(2)], "antialiasing"),
    (resize([2]), [f32(0)], "no elements"),
    (resize([2]), [TensorType(DType.BOOL, (2,))], "cannot interpolate"),
    (resize([2], coordinates="tf_crop_and_resize"), [f32(2)], "roi"),
    (resize([2], coordinates="tf_crop_and_resize"), [f32(2), f32(3)], "roi must have the shape"),
])
def test_rejections(op, types, words):
    with pytest.raises(InferenceError, match=words):
        op.infer(types)


def test_without_elements():
    assert run_one(resize([0, 4]), np.zeros((3, 2), np.float32)).shape == (0, 4)
    assert resize([0, 4]).evaluate([np.zeros((0, 2), np.float32)], int)[0].shape == (0, 4)
    with pytest.raises(ShapeError, match="no elements"):
        resize([N]).evaluate([np.zeros(0, np.float32)], lambda dim: 2)
