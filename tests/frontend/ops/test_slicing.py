"""Slice, Pad and CenterCropPad against the reference, onnxruntime and NumPy."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import dlc
from dlc.errors import InputError, ModelError, ShapeError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.dims import to_text
from dlc.ir.ops.movement import Pad
from tests.helpers.onnx_cases import check_node, feeds_of, one_node_model, run_evaluator

X = np.arange(48, dtype=np.float32).reshape(2, 3, 8)
BOUND = st.integers(-12, 12) | st.sampled_from([2**31 - 1, -(2**31), 2**63 - 1, -(2**63)])


def ints(*values):
    return np.array(values, dtype=np.int64)


SLICES = [  # starts, ends, axes, steps
    ((1,), (3,), None, None), ((0, 1), (2, 3), None, None), ((-3,), (-1,), (2,), None),
    ((2,), (100,), (-1,), None), ((5,), (2,), (2,), None), ((0,), (2**63 - 1,), (2,), (3,)),
    ((-1,), (-(2**63),), (2,), (-1,)),
    ((7, 0), (0, 3), (2, 1), (-2, 2)), ((-100,), (100,), (1,), (1,)), ((20,), (-20,), (2,), (-3,)),
    ((1,), (2**31 - 1,), (2,), (1,)),
]


@pytest.mark.parametrize("starts, ends, axes, steps", SLICES)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_slice_by_operands(starts, ends, axes, steps, dtype):
    if dtype is np.int32 and max(map(abs, ends)) >= 2**31:
        ends = [np.iinfo(dtype).max if end > 0 else np.iinfo(dtype).min for end in ends]
    operands = [None if value is None else np.array(value, dtype=dtype)
                for value in (starts, ends, axes, steps)]
    for opset in (10, 11, 13):
        check_node("Slice", [X, *operands], 1, {}, opset, constants=(1, 2, 3, 4))
    check_node("Slice", [X, *operands], 1, {}, 13, constants=(1, 2, 3, 4), symbolic=True)
    check_node("Slice", [X, *operands], 1, {}, 13, constants=(3, 4))


@pytest.mark.parametrize("starts, ends, axes, steps", [case for case in SLICES if case[3] is None])
def test_slice_by_attributes(starts, ends, axes, steps):
    attributes = {"starts": starts, "ends": ends, "axes": axes}
    check_node("Slice", [X], 1, attributes, 9)
    check_node("Slice", [X], 1, attributes, 7, symbolic=True)


@settings(max_examples=60, deadline=None)
@given(extent=st.integers(0, 9), start=BOUND, end=BOUND, step=st.integers(-4, 4).filter(bool),
       frozen=st.booleans(), symbolic=st.booleans())
def test_slice_follows_the_words_of_the_standard(extent, start, end, step, frozen, symbolic):
    x = np.arange(extent, dtype=np.int32)
    inputs = [x, ints(start), ints(end), ints(0), ints(step)]
    model = one_node_model("Slice", inputs, opset=13, constants=(1, 2, 3, 4) if frozen else (3, 4))
    if symbolic:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    (y,) = run_evaluator(model, feeds_of(model, inputs))
    assert y.tolist() == [x[index] for index in sliced_positions(start, end, step, extent)]


def sliced_positions(start, end, step, extent):
    """The standard's clamping, word by word."""
    start, end = (bound + extent if bound < 0 else bound for bound in (start, end))
    if step > 0:
        return range(min(max(start, 0), extent), min(max(end, 0), extent), step)
    if not extent:
        return range(0)
    return range(min(max(start, 0), extent - 1), min(max(end, -1), extent - 1), step)


@pytest.mark.parametrize("start, end, extent", [
    (1, 2**63 - 1, "n - min(n, 1)"), (0, -1, "max(n - 1, 0)"), (-1, 2**63 - 1, "n - max(n - 1, 0)"),
])
def test_the_extent_of_a_slice_is_symbolic(start, end, extent):
    model = one_node_model("Slice", [X, ints(start), ints(end), ints(2)], opset=13, constants=(1, 2, 3))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "n"
    (dim,) = import_model(model).graph.outputs[0].tensor.shape[2:]
    assert to_text(dim) == extent


def test_a_slice_of_everything_is_the_operand():
    inputs = [X, ints(0, 0), ints(2**63 - 1, 8), ints(0, 2)]
    model = one_node_model("Slice", inputs, opset=13, constants=(1, 2, 3))
    assert not import_model(model).graph.nodes


@pytest.mark.parametrize("inputs, words", [
    ([X, ints(0), ints(1), ints(3)], "outside"), ([X, ints(0), ints(1), ints(0), ints(0)], "step is 0"),
    ([X, ints(0, 0), ints(1)], "do not match"), ([X, ints(0, 0), ints(1, 1), ints(1, -2)], "twice"),
])
def test_impossible_slices(inputs, words):
    with pytest.raises(ModelError, match=words):
        import_model(one_node_model("Slice", inputs, opset=13, constants=(1, 2, 3, 4)))


def test_steps_computed_at_run_time_are_unsupported():
    inputs = [X, ints(0), ints(1), ints(0), ints(1)]
    with pytest.raises(UnsupportedError, match="steps"):
        import_model(one_node_model("Slice", inputs, opset=13, constants=(1, 2, 3)))


PADS = [(0, 1, 2, 0, 0, 3), (1, 2, 7, 1, 2, 7), (0, 0, 0, 0, 0, 0), (0, 0, -2, 0, 1, -3),
        (0, -1, 3, 0, 1, -2), (0, 0, -9, 0, 0, 3), (1, 2, 2, 2, -4, -9)]


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("pads", PADS)
def test_pad_by_attributes(pads, mode):
    if mode != "constant":
        # onnxruntime wants an element left to copy, and reflects no further than to the other end.
        pads = tuple(min(max(pad, -2 if mode == "edge" else -1), 5 if mode == "edge" else 1) for pad in pads)
    reference = min(pads) >= 0  # It does not take negative pads.
    attributes = {"pads": pads, "mode": mode}
    check_node("Pad", [X], 1, attributes, 7, reference=reference)
    check_node("Pad", [X], 1, attributes | {"value": 1.5}, 10, symbolic=True, reference=reference)


@pytest.mark.parametrize("opset", [11, 13, 18, 21, 25])
@pytest.mark.parametrize("value", [None, 2.5])
@pytest.mark.parametrize("pads", PADS)
def test_pad_with_a_constant(pads, value, opset):
    inputs = [X, ints(*pads), None if value is None else np.float32(value)]
    reference = min(pads) >= 0
    check_node("Pad", inputs, 1, {}, opset, constants=(1,), symbolic=True, reference=reference)
    check_node("Pad", inputs, 1, {"mode": "constant"}, opset, reference=reference)


@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap"])
@pytest.mark.parametrize("pads", [(0, 1, 2, 0, 0, 3), (1, 2, 7, 1, 2, 7)])
def test_pad_with_elements(pads, mode):
    check_node("Pad", [X, ints(*pads)], 1, {"mode": mode}, 19, constants=(1,), symbolic=True)
    check_node("Pad", [X, ints(*pads)], 1, {"mode": mode}, 19)


@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap"])
@pytest.mark.parametrize("static", [False, True])
def test_pad_of_an_axis_without_elements(mode, static):
    """Nothing can be copied into it, so that run-time pads must be 0 there."""
    empty = X[:, :0]
    model = one_node_model("Pad", [empty, ints(*[0] * 6)], 1, {"mode": mode}, 19)
    if not static:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "n"
    with dlc.compile(model.SerializeToString(), cache=False, threads=1) as compiled:
        assert compiled(empty, ints(1, 0, 0, 0, 0, 2))[0].shape == (3, 0, 10)
        with pytest.raises(ShapeError, match="cannot pad axis 1"):
            compiled(empty, ints(0, 1, 0, 0, 0, 0))


@pytest.mark.parametrize("axes", [(2,), (-1, 0), (1, 2)])
def test_pad_of_some_axes(axes):
    pads = ints(*range(1, 2 * len(axes) + 1))
    inputs = [X, pads, np.float32(7), ints(*axes)]
    check_node("Pad", inputs, 1, {}, 18, constants=(1, 3))
    check_node("Pad", inputs, 1, {}, 18, constants=(3,))


@settings(max_examples=40, deadline=None)
@given(extent=st.integers(1, 5), before=st.integers(0, 12), after=st.integers(0, 12),
       mode=st.sampled_from(["constant", "edge", "reflect", "wrap"]), frozen=st.booleans())
def test_pad_is_that_of_numpy(extent, before, after, mode, frozen):
    x = np.arange(extent, dtype=np.float32)
    inputs = [x, ints(before, after)]
    model = one_node_model("Pad", inputs, 1, {"mode": mode}, 19, constants=(1,) if frozen else ())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    (y,) = run_evaluator(model, feeds_of(model, inputs))
    np.testing.assert_array_equal(y, np.pad(x, (before, after), mode=mode))


@settings(max_examples=60, deadline=None)
@given(extent=st.integers(0, 5), before=st.integers(-7, 7), after=st.integers(-7, 7), frozen=st.booleans(),
       symbolic=st.booleans())
def test_pad_with_a_constant_one_by_one(extent, before, after, frozen, symbolic):
    x = np.arange(1, extent + 1, dtype=np.float32)
    inputs = [x, ints(before, after), np.float32(-1)]
    model = one_node_model("Pad", inputs, 1, {}, 13, constants=(1,) if frozen else ())
    if symbolic:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    if extent + before + after < 0:
        with pytest.raises((ModelError, InputError), match="cut off more"):
            run_evaluator(model, feeds_of(model, inputs))
        return
    (y,) = run_evaluator(model, feeds_of(model, inputs))
    positions = range(-before, extent + after)
    assert y.tolist() == [x[position] if 0 <= position < extent else -1 for position in positions]


def test_symbolic_extents_are_padded_without_a_slice():
    model = one_node_model("Pad", [X, ints(0, 0, 1, 0, 0, 2)], 1, {}, 13, constants=(1,), symbolic=True)
    (node,) = import_model(model).graph.nodes
    assert node.op == Pad((0, 0, 1), (0, 0, 2), "constant")
    assert [to_text(dim) for dim in node.output.tensor.shape] == ["x0_0", "x0_1", "x0_2 + 3"]


@pytest.mark.parametrize("inputs, attributes, opset, words", [
    ([X, ints(1, 1)], {}, 13, "2 pads are given for 3 axes"),
    ([X, ints(*[0] * 6)], {"mode": "wrap"}, 18, "wrap"),
    ([X, ints(0, 0, -5, 0, 0, -4)], {}, 13, "more than axis 2"),
    ([X[:, :, :0], ints(0, 0, 1, 0, 0, 0)], {"mode": "edge"}, 13, "axis 2 of .* no elements"),
])
def test_impossible_pads(inputs, attributes, opset, words):
    with pytest.raises(ModelError, match=words):
        import_model(one_node_model("Pad", inputs, 1, attributes, opset, constants=(1,)))


@pytest.mark.parametrize("frozen", [(), (1,)], ids=["run-time", "constant"])
@pytest.mark.parametrize("shape, axes", [
    ((2, 3, 8), None), ((1, 5, 4), None), ((4, 3, 7), None), ((9,), (-1,)), ((2, 11), (1, 2)),
    ((5, 3), (2, 0)),
])
def test_center_crop_pad(shape, axes, frozen):
    inputs = [X, ints(*shape)]
    check_node("CenterCropPad", inputs, 1, {"axes": axes}, 18, constants=frozen, symbolic=bool(frozen))
