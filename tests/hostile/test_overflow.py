"""Sizes beyond 64 bits: products of extents and numbers from data that wrap around to small ones."""

from __future__ import annotations

import numpy as np
import pytest

import dlc
from dlc.backends.cpu import overflow
from dlc.runtime import call
from tests.helpers.indexed_models import Indexed
from tests.helpers.recipes import Array

MOST = (1 << 63) - 1
ONES = np.ones


def model(text: str, opset: int = 17) -> dlc.CompiledModel:
    return dlc.compile(Indexed("m", text, {}, (), opset=opset).model(), cache=False)


def numbers(*values: object) -> Array:
    return np.array(values, np.int64)


def test_the_bounds_are_those_of_the_runtime() -> None:
    assert overflow.LARGEST_EXTENT == call._LARGEST_EXTENT
    assert overflow.LARGEST_ELEMENT == call._LARGEST_ELEMENT


def test_arrays_without_elements_make_a_product_that_wraps_to_none() -> None:
    """2**16 * 2**46 * 4 bytes are 0 modulo 2**64."""
    m = model(
        """m (float[a, k] x, float[k, b] y) => (float[a] z) {
          p = MatMul(x, y)  z = ReduceMax <keepdims = 0, axes = [1]> (p)
        }"""
    )
    x, y = np.zeros((1 << 16, 0), np.float32), np.zeros((0, 1 << 46), np.float32)
    with pytest.raises(dlc.ShapeError, match="overflows"):
        m(x, y)
    assert m(x[:3], y[:, :5])[0].tolist() == [0, 0, 0]


def test_an_intermediate_result_whose_bytes_wrap() -> None:
    m = model(
        """m (float[a] x, int64[4] s) => (float z) {
          axes = Constant <value_ints = [0, 1, 2, 3]> ()
          e = Expand(x, s)  f = Softmax <axis = 2> (e)  z = ReduceMax <keepdims = 0> (f, axes)
        }""",
        18,
    )
    with pytest.raises(dlc.ShapeError, match="overflows"):
        m(ONES(1, np.float32), numbers(1 << 16, 1 << 16, 1 << 15, 1 << 16))
    assert m(ONES(1, np.float32), numbers(2, 3, 4, 5))[0] == pytest.approx(1 / 4)


def test_a_view_with_as_many_elements_modulo_2_to_the_64() -> None:
    """1539092 * 1484310 * 48448661 is 24 + 6 * 2**64."""
    m = model(
        """m (float[a, b] x, int64[3] s) => (float[p] z) {
          e = Reshape(x, s)  z = ReduceMax <keepdims = 0, axes = [1, 2]> (e)
        }"""
    )
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    with pytest.raises(dlc.ShapeError, match="number of elements differs"):
        m(x, numbers(1539092, 1484310, 48448661))
    assert m(x, numbers(2, 3, 4))[0].tolist() == [11, 23]


def test_parts_whose_sum_wraps_to_the_whole() -> None:
    """Parts of 2**63 - 1, 1 - 2**63 - off and 9 + off elements: the last would begin before the tensor."""
    m = model(
        """m (float[n, m] x, int64[3, k] v) => (float[n, c] y) {
          one = Constant <value_ints = [1]> ()  s = ReduceMax <keepdims = 0> (v, one)
          p, q, r = Split <axis = 1> (x, s)  y = Exp(r)
        }""",
        18,
    )
    x = np.zeros((3, 9), np.float32)
    for off in (2, 1000, 1 << 40):
        with pytest.raises(dlc.ShapeError, match="sum of the parts"):
            m(x, numbers([MOST], [(1 << 64) - off - MOST], [9 + off]))
    assert m(x, numbers([2], [3], [4]))[0].shape == (3, 4)


def test_numbers_that_make_a_broken_condition_zero() -> None:
    """n and s broadcast where (n - s)(n - 1)(1 - s) is 0; modulo 2**64 also for n = 3, s = 2**62 + 1."""
    m = model(
        """m (float[1, n] x, int64[2, k] v) => (float z) {
          one = Constant <value_ints = [1]> ()  axes = Constant <value_ints = [0, 1]> ()
          s = ReduceMax <keepdims = 0> (v, one)  e = Expand(x, s)  z = ReduceMax <keepdims = 0> (e, axes)
        }""",
        18,
    )
    x = np.arange(3, dtype=np.float32).reshape(1, 3)
    with pytest.raises(dlc.ShapeError, match="do not broadcast"):
        m(x, numbers([1], [(1 << 62) + 1]))
    assert m(x, numbers([4], [3]))[0] == 2
    many = np.arange(1 << 20, dtype=np.float32).reshape(1, -1)
    assert m(many, numbers([2], [1 << 20]))[0] == many[0, -1]


def test_places_that_wrap_are_refused_before_the_launch() -> None:
    """No memory is as large as what is read here: only the points of a loop would wrap."""
    m = model(
        """m (float[1] x, int64[3, k] v) => (float z) {
          one = Constant <value_ints = [1]> ()  minus = Constant <value_ints = [-1]> ()
          zero = Constant <value_ints = [0]> ()
          s = ReduceMax <keepdims = 0> (v, one)  e = Expand(x, s)  f = Reshape(e, minus)
          g = Exp(f)  z = ReduceSum <keepdims = 0> (g, zero)
        }""",
        18,
    )
    x = np.zeros(1, np.float32)
    assert m(x, numbers([4], [3], [2]))[0] == 24
    for huge in (1 << 22, 1 << 31, 1 << 62, MOST):
        with pytest.raises((dlc.ShapeError, dlc.LimitError)):
            m(x, numbers([huge], [huge], [huge]))


def test_a_symbol_that_is_set_to_a_sum() -> None:
    """What a loop stacks, or two runs of Concat, set symbols by sums and products: these must not wrap."""
    m = model(
        """m (float[n] x, int64[k] v) => (float[p] y) {
          b = ReduceMax <keepdims = 0> (v)  zero = Constant <value_int = 0> ()
          one = Constant <value_int = 1> ()  axis = Constant <value_ints = [0]> ()
          r = Range(zero, b, one)  f = Cast <to = 1> (r)
          y = Concat <axis = 0> (x, f, f)
        }""",
        18,
    )
    x = np.zeros(2, np.float32)
    assert m(x, numbers(3))[0].tolist() == [0, 0, 0, 1, 2, 0, 1, 2]
    for huge in (1 << 40, 1 << 61, 1 << 62, MOST):
        with pytest.raises((dlc.ShapeError, dlc.LimitError, dlc.ResourceError)):
            m(x, numbers(huge))
