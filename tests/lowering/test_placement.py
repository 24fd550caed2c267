"""Where outputs lie whose extents only the run tells: never in memory that the caller made before the run."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import dlc


def compiled(text: str, optimize: int) -> dlc.CompiledModel:
    header = '<ir_version: 8, opset_import: ["" : 17]> '
    return dlc.compile(onnx.parser.parse_model(header + text), cache=False, optimize=optimize)


@pytest.mark.parametrize("optimize", [0, 2])
def test_a_reshaped_result_of_known_size(optimize: int) -> None:
    """Its elements are known before the run, the extents of the output that shows them are not."""
    text = "g (float[6] x, int64[2] shape) => (float[?, ?] y) { v = Neg (x) y = Reshape (v, shape) }"
    x = np.arange(6, dtype=np.float32)
    with compiled(text, optimize) as model:
        for shape, expected in (([2, 3], (2, 3)), ([-1, 2], (3, 2)), ([6, 1], (6, 1))):
            (y,) = model(x, np.array(shape))
            assert y.shape == expected
            np.testing.assert_array_equal(y.reshape(-1), -x)


@pytest.mark.parametrize("optimize", [0, 2])
def test_an_output_that_is_reshaped_to_others(optimize: int) -> None:
    text = """g (float[6] x, int64[2] a, int64[1] b) => (float[6] v, float[?, ?] y, float[?] z)
        { v = Neg (x) y = Reshape (v, a) z = Reshape (v, b) }"""
    x = np.arange(6, dtype=np.float32)
    with compiled(text, optimize) as model:
        outputs = model(x, np.array([3, -1]), np.array([-1]))
    assert [y.shape for y in outputs] == [(6,), (3, 2), (6,)]
    for index, y in enumerate(outputs):
        np.testing.assert_array_equal(y.reshape(-1), -x)
        assert not any(np.shares_memory(y, other) for other in outputs[:index])


def test_nothing_reshaped_by_a_shape_of_the_run() -> None:
    text = """g (float[1, 0, 3] x, int64[2] shape) => (float[?, ?] y)
        { y = Reshape <allowzero = 1> (x, shape) }"""
    with compiled(text, 2) as model:
        for shape in ((0, 4), (5, 0)):
            (y,) = model(np.zeros((1, 0, 3), np.float32), np.array(shape))
            assert y.shape == shape


def test_an_output_without_elements() -> None:
    """Nothing computes it, but its shape is the run's."""
    text = """g (float[n] x, int64[2] shape) => (float[?, ?] y)
        { v = Expand (x, shape) sizes = Constant <value = int64[2] {0, 2}> ()
          y, rest = Split <axis = 0> (v, sizes) }"""
    with compiled(text, 2) as model:
        for columns in (4, 7):
            (y,) = model(np.zeros(1, np.float32), np.array([2, columns]))
            assert y.shape == (0, columns)
