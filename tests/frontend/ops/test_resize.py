"""Resize and Upsample against onnxruntime and the reference, over all of their attributes."""
import ml_dtypes
import numpy as np
import pytest

from dlc.errors import ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.dims import to_text
from tests.helpers.extension_cases import run_native
from tests.helpers.onnx_cases import check_node, feeds_of, one_node_model, run_evaluator, run_onnxruntime

X = np.random.default_rng(0).standard_normal((1, 2, 7, 10)).astype(np.float32)
COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
#: Coordinates below 32 are rounded to 2**-20 in float32, which the slope of the elements multiplies: engines
#: that do not round alike differ by that much.
COORDINATE_ERROR = (1e-5, 1e-5)
SCALES = [(1.6, 2.5), (0.6, 0.8), (2.0, 0.5), (1.0, 3.0), (3.3, 1.0), (0.3, 0.1), (0.7, 0.7)]


def scales(*values):
    return np.array(values, dtype=np.float32)


def sizes(*values):
    return np.array(values, dtype=np.int64)


def reference_agrees(factors, coordinates):
    """Whether the reference reads the standard as dlc and onnxruntime do.

    It takes a fractional length of the result in align_corners, half a pixel to the left for a single one in
    pytorch_half_pixel, and sizes from the rounded scale: 10 * 0.7f = 6.99 becomes 6. Where a coordinate is a
    hair below an integer (factor 3.3), it reads one element too far to the right.
    """
    lengths = [extent * factor for extent, factor in zip(X.shape[2:], factors)]
    exact = all(abs(length - round(length)) < 1e-6 for length in lengths)
    single = coordinates == "pytorch_half_pixel" and min(lengths) < 2
    if {0.7, 3.3} & set(factors) or single:
        return False
    return exact or coordinates != "align_corners"


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("factors", SCALES)
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_interpolation_by_scales(mode, coordinates, factors, symbolic):
    inputs = [X, None, scales(1, 1, *factors)]
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    check_node("Resize", inputs, 1, attributes, 19, constants=(2,), symbolic=symbolic,
               reference=reference_agrees(factors, coordinates), tolerance=COORDINATE_ERROR)


@pytest.mark.parametrize("factors", SCALES)
@pytest.mark.parametrize("nearest", NEAREST)
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_nearest_by_scales(coordinates, nearest, factors):
    # The float32 coordinates decide ties, so that the float64 ones of the reference may pick another element.
    inputs = [X, None, scales(1, 1, *factors)]
    attributes = {"mode": "nearest", "nearest_mode": nearest, "coordinate_transformation_mode": coordinates}
    check_node("Resize", inputs, 1, attributes, 19, constants=(2,), reference=False)


@pytest.mark.parametrize("frozen", [(3,), ()], ids=["constant", "run-time"])
@pytest.mark.parametrize("target", [(14, 20), (3, 5), (7, 10), (1, 1), (9, 1), (5, 17)])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_by_sizes(mode, coordinates, target, frozen):
    single = coordinates == "pytorch_half_pixel" and 1 in target
    check_node("Resize", [X, None, None, sizes(1, 2, *target)], 1,
               {"mode": mode, "coordinate_transformation_mode": coordinates}, 19, constants=frozen,
               reference=mode != "nearest" and not single, tolerance=COORDINATE_ERROR)


@pytest.mark.parametrize("factors", SCALES)
@pytest.mark.parametrize("exclude", [0, 1])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialias(mode, exclude, factors):
    attributes = {"mode": mode, "antialias": 1, "exclude_outside": exclude}
    check_node("Resize", [X, None, scales(1, 1, *factors)], 1, attributes, 18, constants=(2,),
               reference=reference_agrees(factors, "half_pixel"), tolerance=COORDINATE_ERROR)


@pytest.mark.parametrize("coefficient", [-0.5, -0.75, 0.25])
@pytest.mark.parametrize("exclude", [0, 1])
@pytest.mark.parametrize("factors", [(1.6, 2.5), (0.6, 0.8)])
def test_cubic_coefficient(coefficient, exclude, factors):
    attributes = {"mode": "cubic", "cubic_coeff_a": coefficient, "exclude_outside": exclude}
    check_node("Resize", [X, None, scales(1, 1, *factors)], 1, attributes, 13, constants=(2,),
               tolerance=COORDINATE_ERROR)


@pytest.mark.parametrize("opset", [11, 13, 18, 19, 21])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_every_opset(mode, opset):
    empty = np.zeros(0, dtype=np.float32)
    by_sizes = [X, empty, empty if opset < 13 else None, sizes(1, 2, 14, 5)]
    by_scales = [X, empty, scales(1, 1, 2, 0.5)]
    check_node("Resize", by_scales, 1, {"mode": mode}, opset, constants=(1, 2), symbolic=True)
    check_node("Resize", by_sizes, 1, {"mode": mode}, opset, constants=(1, 2, 3), symbolic=True)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("roi", [(0.2, 0.3, 0.9, 0.7), (-0.3, 0.1, 1.4, 0.6), (0.5, 0.5, 0.5, 0.5)])
@pytest.mark.parametrize("target", [(5, 6), (1, 4)])
def test_crop_and_resize(mode, roi, target):
    top, left, bottom, right = roi
    attributes = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize",
                  "extrapolation_value": 9.5}
    inputs = [X, np.float32([0, 0, top, left, 1, 1, bottom, right]), None, sizes(1, 2, *target)]
    judged = {"reference": mode != "nearest", "tolerance": COORDINATE_ERROR}
    check_node("Resize", inputs, 1, attributes, 13, constants=(3,), **judged)
    check_node("Resize", inputs, 1, attributes, 13, constants=(1, 3), symbolic=True, **judged)
    inputs = [X, np.float32([left, top, right, bottom]), None, sizes(*reversed(target))]
    check_node("Resize", inputs, 1, attributes | {"axes": [3, 2]}, 18, constants=(3,), **judged)


@pytest.mark.parametrize("axes", [(2, 3), (3, 2), (-1,), (1, 3)])
def test_axes(axes):
    factors = scales(*(1.5, 2.0)[:len(axes)])
    attributes = {"mode": "linear", "axes": axes}
    # onnxruntime interpolates the last two axes only; the reference takes no negative axes.
    judged = {"onnxruntime": 1 not in axes, "reference": min(axes) >= 0}
    check_node("Resize", [X, None, factors], 1, attributes, 18, constants=(2,), **judged)
    target = [int(X.shape[axis] * factor) for axis, factor in zip(axes, factors)]
    check_node("Resize", [X, None, None, sizes(*target)], 1, attributes, 18, constants=(3,), **judged)


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
@pytest.mark.parametrize("target", [(13, 15), (3, 9), (8, 5)])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_keep_aspect_ratio_policy(policy, target, mode):
    attributes = {"mode": mode, "axes": [2, 3], "keep_aspect_ratio_policy": policy}
    check_node("Resize", [X, None, None, sizes(*target)], 1, attributes, 18, constants=(3,),
               tolerance=COORDINATE_ERROR)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
@pytest.mark.parametrize("target", [(13, 15), (3, 9), (8, 5), (1, 1)])
@pytest.mark.parametrize("attributes", [
    {"mode": "nearest"},
    {"mode": "linear"},
    {"mode": "linear", "antialias": 1},
    {"mode": "cubic", "antialias": 1},
    {"mode": "cubic", "exclude_outside": 1},
])
@pytest.mark.parametrize("symbolic", [False, True])
def test_keep_aspect_ratio_policy_of_sizes_at_run_time(policy, target, attributes, symbolic):
    attributes = {**attributes, "axes": [2, 3], "keep_aspect_ratio_policy": policy}
    inputs = [X, None, None, sizes(*target)]
    model = one_node_model("Resize", inputs, 1, attributes, 18, symbolic=symbolic)
    # The number of sizes is known.
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 2
    feeds = feeds_of(model, inputs)
    (expected,) = run_onnxruntime(model, feeds)
    for (actual,) in (run_evaluator(model, feeds), run_native(model, feeds)):
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, *COORDINATE_ERROR)


def test_keep_aspect_ratio_policy_needs_elements():
    attributes = {"axes": [0, 1], "keep_aspect_ratio_policy": "not_larger"}
    with pytest.raises(ModelError, match="needs elements along all axes, not 0"):
        import_model(one_node_model("Resize", [np.zeros((0, 3), np.float32), None, None, sizes(2, 2)], 1,
                                    attributes, 18))


@pytest.mark.parametrize("shape, factors", [
    ((5,), (2,)), ((4, 6), (1.5, 0.5)), ((1, 1, 3, 4, 5), (1, 1, 2, 0.5, 1.5)),
])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_ranks(shape, factors, mode):
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    # onnxruntime has no linear mode for vectors.
    check_node("Resize", [x, None, scales(*factors)], 1, {"mode": mode}, 19, constants=(2,),
               onnxruntime=mode == "nearest" or len(shape) != 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_float_types(dtype):
    inputs = [X.astype(dtype), None, scales(1, 1, 1.6, 0.6)]
    # onnxruntime rounds float16 after each axis and lacks the other two. Coordinates are float32 for float64.
    tolerance = COORDINATE_ERROR if dtype is np.float64 else None
    check_node("Resize", inputs, 1, {"mode": "linear"}, 19, constants=(2,), onnxruntime=False,
               tolerance=tolerance)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_integers(dtype):
    x = np.random.default_rng(2).integers(0, 127, (1, 1, 5, 9)).astype(dtype)
    inputs = [x, None, scales(1, 1, 1.5, 0.5)]
    # onnxruntime truncates without antialias, which the standard leaves open; the reference rounds.
    check_node("Resize", inputs, 1, {"mode": "linear"}, 18, constants=(2,), reference=False)
    # With antialias onnxruntime rounds after each axis, the reference once.
    attributes = {"mode": "linear", "antialias": 1}
    check_node("Resize", inputs, 1, attributes, 18, constants=(2,), onnxruntime=False)
    check_node("Resize", inputs, 1, attributes, 18, constants=(2,), reference=False, tolerance=(0, 1))


def test_integers_saturate():
    x = np.array([[[[0, 255, 255, 0, 0, 255]]]], dtype=np.uint8)
    results = []
    for operand in (x, x.astype(np.float32)):
        inputs = [operand, None, scales(1, 1, 1, 2.5)]
        model = one_node_model("Resize", inputs, 1, {"mode": "cubic"}, 18, constants=(2,))
        results.append(run_evaluator(model, feeds_of(model, inputs))[0])
    integers, floats = results
    assert floats.max() > 255 and floats.min() < 0
    np.testing.assert_array_equal(integers, np.trunc(np.clip(floats, 0, 255)).astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.bool_, object])
def test_nearest_moves_any_type(dtype):
    x = np.arange(12).reshape(1, 1, 3, 4).astype(str if dtype is object else dtype).astype(dtype)
    inputs = [x, None, scales(1, 1, 2, 1)]
    model = one_node_model("Resize", inputs, 1, {"mode": "nearest"}, 19, constants=(2,))
    (y,) = run_evaluator(model, feeds_of(model, inputs))
    np.testing.assert_array_equal(y, x.repeat(2, axis=2))


@pytest.mark.parametrize("factors", [(2, 3), (0.6, 0.6), (2, 0.5), (1.3, 1.7)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_before_opset_11(mode, factors):
    attributes, factors = {"mode": mode}, (1.0, 1.0, *factors)
    inputs = [X, scales(*factors)]
    # The reference has neither Upsample nor Resize-10.
    check_node("Resize", inputs, 1, attributes, 10, constants=(1,), symbolic=True, reference=False)
    if min(factors) >= 1:
        check_node("Upsample", inputs, 1, attributes, 9, constants=(1,), reference=False)
        check_node("Upsample", [X], 1, attributes | {"scales": factors}, 7, symbolic=True, reference=False)
        check_node("Upsample", [X], 1, attributes | {"scales": factors}, 8, reference=False)


def test_half_pixel_for_nn():
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "tf_half_pixel_for_nn"}
    inputs = [X, np.zeros(0, dtype=np.float32), scales(1, 1, 1.6, 0.6)]
    check_node("Resize", inputs, 1, attributes, 11, constants=(1, 2), reference=False)


@pytest.mark.parametrize("factor, extent", [
    (2.0, "2*n"), (0.5, "floordiv(n, 2)"), (1.5, "n + floordiv(n, 2)"), (0.7, "floordiv(7*n, 10)"),
])
def test_sizes_of_symbolic_extents(factor, extent):
    model = one_node_model("Resize", [X, None, scales(1, 1, 1, factor)], 1, {}, 19, constants=(2,))
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "n"
    assert to_text(import_model(model).graph.outputs[0].tensor.shape[3]) == extent


@pytest.mark.parametrize("operands, words", [
    ([None, scales(1, 1, 2, 2), sizes(1, 2, 3, 4)], "exactly one"), ([], "exactly one"),
    ([None, scales(2, 2)], "2 scales are given for 4 axes"), ([None, scales(1, 1, 0, 1)], "positive"),
    ([None, None, sizes(2, 2)], "2 sizes are given for 4 axes"),
])
def test_impossible_targets(operands, words):
    with pytest.raises(ModelError, match=words):
        import_model(one_node_model("Resize", [X, *operands], opset=19, constants=(2, 3)))


@pytest.mark.parametrize("attributes, opset, words", [
    ({"mode": "area"}, 19, "area"), ({"antialias": 1}, 13, "came with opset 18"),
    ({"antialias": 1, "mode": "nearest"}, 18, "linear or cubic"),
    ({"coordinate_transformation_mode": "half_pixel_symmetric"}, 18, "symmetric"),
    ({"coordinate_transformation_mode": "tf_half_pixel_for_nn"}, 13, "none of"),
    ({"coordinate_transformation_mode": "tf_crop_and_resize"}, 19, "missing"),
])
def test_impossible_attributes(attributes, opset, words):
    inputs = [X, None, scales(1, 1, 2, 2)]
    with pytest.raises(ModelError, match=words):
        import_model(one_node_model("Resize", inputs, 1, attributes, opset, constants=(2,)))


def test_upsample_ends_at_opset_10():
    with pytest.raises(ModelError, match="removed in opset 10"):
        import_model(one_node_model("Upsample", [X, scales(1, 1, 2, 2)], opset=11, constants=(1,)))


def test_scales_computed_at_run_time_are_unsupported():
    with pytest.raises(UnsupportedError, match="scales are computed at run time"):
        import_model(one_node_model("Resize", [X, None, scales(1, 1, 2, 2)], opset=19))


def test_an_axis_that_keeps_its_extent_does_not_mix_elements():
    inputs = [np.float32([[[[1, np.inf, 2]]]]), None, scales(1, 1, 2, 1)]
    attributes = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
    model = one_node_model("Resize", inputs, 1, attributes, 19, constants=(2,))
    (y,) = run_evaluator(model, feeds_of(model, inputs))
    # onnxruntime gives not-a-number: it multiplies the neighbour in the other axis by zero.
    assert y[0, 0, :, [0, 2]].tolist() == [[1, 1], [2, 2]]


def test_a_scale_that_keeps_the_extent_still_moves_coordinates():
    x = np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8)
    # onnxruntime copies the operand when no extent changes.
    (y,) = check_node("Resize", [x, None, scales(1, 1, 1, 1.1)], 1, {}, 19, constants=(2,), onnxruntime=False)
    assert y.reshape(-1).tolist() == [0, 1, 2, 3, 4, 4, 5, 6]
