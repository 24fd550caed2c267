"""Padding that a model is told to disregard, or cannot see yet, changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

import dlc
from dlc.verify.compare import compare_arrays
from dlc.verify.tolerances import Work, tolerance
from tests.helpers.model_zoo import Model, bits
from tests.helpers.recipes import Array
from tests.models.architectures import named


def longer(array: Array, axis: int, extra: int, value: float) -> Array:
    """`array` with `extra` elements of `value` appended along an axis."""
    shape = list(array.shape)
    shape[axis] = extra
    return np.concatenate([array, np.full(shape, value, array.dtype)], axis)


def assert_close(actual: Array, expected: Array) -> None:
    """Equal by the table of tolerances: sums over a longer axis take another order."""
    difference = compare_arrays(
        "y", np.ascontiguousarray(actual), expected, tolerance(expected.dtype, Work.MODEL)
    )
    assert difference.agrees, difference


@pytest.mark.parametrize("extra", [1, 13])
def test_a_causal_convolution_does_not_see_what_follows(extra: int) -> None:
    model = named("wavenet")
    feeds = model.feeds()
    with model.compile() as native:
        (expected,) = native(feeds)
        (actual,) = native(longer(feeds["signal"], 2, extra, 3.0))
    assert bits([np.ascontiguousarray(actual[..., : expected.shape[2]])]) == bits([expected])


@pytest.mark.parametrize("name", ["llama", "llama_legacy", "modern"])
def test_a_causal_decoder_does_not_see_what_follows(name: str) -> None:
    model: Model = named(name)
    ((key, array),) = model.feeds().items()
    with model.compile() as native:
        (expected,) = native(array)
        (actual,) = native({key: longer(array, 1, 7, 1)})
    assert_close(actual[:, : expected.shape[1]], expected)


@pytest.mark.parametrize("fill", [0, 33])
def test_masked_tokens_do_not_count(fill: int) -> None:
    model = named("bert")
    feeds = model.feeds()
    padded = {
        "ids": longer(feeds["ids"], 1, 6, fill),
        "mask": longer(feeds["mask"], 1, 6, 0),
        "types": longer(feeds["types"], 1, 6, 1),
    }
    with model.compile() as native:
        expected, actual = native(feeds), native(padded)
    assert_close(actual["hidden"][:, :-6], expected["hidden"])
    assert_close(actual["pooled"], expected["pooled"])


def test_masked_words_do_not_count() -> None:
    model = named("translator")
    feeds = model.feeds()
    padded = {**feeds, "memory": longer(feeds["memory"], 1, 4, 2.0), "seen": longer(feeds["seen"], 1, 4, 0)}
    with model.compile() as native:
        assert_close(native(padded)[0], native(feeds)[0])


@pytest.mark.parametrize("value", [5.0, np.nan])
def test_a_sequence_ends_at_its_length(value: float) -> None:
    model = named("rnn")
    feeds = model.feeds()
    padded = {**feeds, "series": longer(feeds["series"], 0, 3, value)}
    with model.compile() as native:
        expected, actual = native(feeds), native(padded)
    steps = expected["all"].shape[1]
    assert bits([np.ascontiguousarray(actual["all"][:, :steps]), actual["last"]]) == bits(expected)
    assert not actual["all"][:, steps:].any()


def test_padding_of_an_image_is_that_of_the_convolution() -> None:
    """Zeros around the image stand for the padding of a convolution without one."""
    rng = np.random.default_rng(0)
    image, weights = (
        rng.standard_normal((2, 5, 11, 13), np.float32),
        rng.standard_normal((20, 5, 3, 3), np.float32),
    )
    padded = np.pad(image, [(0, 0), (0, 0), (1, 1), (1, 1)])
    with (
        dlc.compile(_convolution(weights, 1), cache=False) as inside,
        dlc.compile(_convolution(weights, 0), cache=False) as outside,
    ):
        assert_close(inside(image)[0], outside(padded)[0])


def _convolution(weights: Array, pad: int) -> object:
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[pad] * 4)
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", c, "h", "w"])]
        for name, c in (("x", weights.shape[1]), ("y", weights.shape[0]))
    ]
    values[1][0].type.tensor_type.shape.dim[2].dim_param = "oh"
    values[1][0].type.tensor_type.shape.dim[3].dim_param = "ow"
    graph = helper.make_graph([node], "conv", values[0], values[1], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
