"""RoiAlign, GridSample, AffineGrid and Col2Im against onnxruntime and the reference."""
import ml_dtypes
import numpy as np
import pytest

from dlc.errors import IndexFault, ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.evaluate import evaluate
from tests.helpers.native_nodes import check_native_node, run_native
from tests.helpers.onnx_cases import (
    assert_agrees,
    check_node,
    feeds_of,
    one_node_model,
    run_evaluator,
    run_reference,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 6, 9)).astype(np.float32)
ROIS = np.float32([[0, 0, 8, 5], [2.5, 1.25, 7.1, 4.9], [-3, -2, 12, 9], [4, 3, 4.2, 3.1], [7, 5, 3, 2]])
IMAGES = np.array([0, 1, 1, 0, 1])
#: Sums of products of four weights and elements in float32, in another order.
SUM_ERROR = (1e-4, 1e-5)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("opset, transform", [
    (10, None), (16, None), (16, "half_pixel"), (16, "output_half_pixel"), (22, "half_pixel"),
])
def test_roi_align(opset, transform, ratio, mode, symbolic):
    attributes = {"mode": mode, "sampling_ratio": ratio, "output_height": 3, "output_width": 2,
                  "spatial_scale": 0.75, "coordinate_transformation_mode": transform}
    # The reference takes opset 10 for 16.
    check_node("RoiAlign", [X, ROIS, IMAGES], 1, attributes, opset, symbolic=symbolic, reference=opset >= 16,
               tolerance=SUM_ERROR)


def test_roi_align_defaults():
    check_node("RoiAlign", [X, ROIS[:3], IMAGES[:3]], 1, {}, 16, tolerance=SUM_ERROR)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_roi_align_of_other_floats(dtype):
    inputs = [X.astype(dtype), ROIS[:2].astype(dtype), IMAGES[:2]]
    model = one_node_model("RoiAlign", inputs, 1, {"output_height": 2, "output_width": 2}, 22)
    (y,) = run_evaluator(model, feeds_of(model, inputs))
    wide = [X.astype(dtype).astype(np.float32), ROIS[:2].astype(dtype).astype(np.float32), IMAGES[:2]]
    model = one_node_model("RoiAlign", wide, 1, {"output_height": 2, "output_width": 2}, 22)
    (expected,) = run_evaluator(model, feeds_of(model, wide))
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype(np.float32), expected, 1e-2 if y.dtype.itemsize == 2 else 1e-5, 1e-3)


def test_roi_align_of_an_image_that_does_not_exist():
    inputs = [X, ROIS[:1], np.array([2])]
    graph = import_model(one_node_model("RoiAlign", inputs, opset=16)).graph
    with pytest.raises(IndexFault, match="batch index 2"):
        evaluate(graph, {"x0": X, "x1": inputs[1], "x2": inputs[2]})


REGIONS = np.float32([
    [0, 0, 0, 8, 5], [1, 2.5, 1.25, 7.1, 4.9], [1, -3, -2, 12, 9], [0, 4, 3, 4.2, 3.1], [0, 7, 5, 3, 2],
    [1, 20, 20, 30, 30], [0, -9, -9, -5, -5], [0, 0.5, 1.5, 2.5, 3.5],
])


@pytest.mark.parametrize("scale", [None, 0.75, 0.5])
@pytest.mark.parametrize("bins", [[3, 2], [1, 1], [7, 11]])
@pytest.mark.parametrize("opset", [7, 21])  # onnxruntime does not know that of opset 22, which adds bfloat16
def test_max_roi_pool(opset, bins, scale):
    attributes = {"pooled_shape": bins, "spatial_scale": scale}
    check_native_node("MaxRoiPool", [X, REGIONS], 1, attributes, opset, reference=False, symbolic=opset == 21)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_max_roi_pool_of_other_floats(dtype):
    inputs = [X.astype(dtype), REGIONS.astype(dtype)]
    model = one_node_model("MaxRoiPool", inputs, 1, {"pooled_shape": [3, 2]}, 22)
    wide = [array.astype(np.float32) for array in inputs]
    (expected,) = run_evaluator(one_node_model("MaxRoiPool", wide, 1, {"pooled_shape": [3, 2]}, 22),
                                {"x0": wide[0], "x1": wide[1]})
    for run in (run_evaluator, run_native):
        (y,) = run(model, feeds_of(model, inputs))
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.astype(np.float32), expected)


def test_max_roi_pool_of_an_image_that_does_not_exist():
    inputs = [X, np.float32([[2, 0, 0, 1, 1]])]
    model = one_node_model("MaxRoiPool", inputs, 1, {"pooled_shape": [1, 1]}, 22)
    for run in (run_evaluator, run_native):
        with pytest.raises(IndexFault):
            run(model, feeds_of(model, inputs))
    with pytest.raises(ModelError, match="pooled_shape"):
        import_model(one_node_model("MaxRoiPool", inputs, 1, {"pooled_shape": [1]}, 22))


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection", None])
@pytest.mark.parametrize("mode, opset", [("bilinear", 16), ("nearest", 16), ("bicubic", 16), ("linear", 20),
                                         ("nearest", 22), ("cubic", 22), (None, 16), (None, 20)])
def test_grid_sample(mode, opset, padding, align, symbolic):
    grid = RNG.uniform(-1.6, 1.6, (2, 4, 5, 2)).astype(np.float32)
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
    # The reference knows the new names of the modes only, and moves coordinates to the border for cubic too.
    reference = opset >= 20 and (mode, padding) != ("cubic", "border")
    check_node("GridSample", [X, grid], 1, attributes, opset, symbolic=symbolic, reference=reference,
               tolerance=SUM_ERROR)


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_grid_sample_of_volumes(mode, padding, align):
    x = RNG.standard_normal((1, 2, 3, 4, 5)).astype(np.float32)
    grid = RNG.uniform(-1.4, 1.4, (1, 2, 3, 2, 3)).astype(np.float32)
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
    check_node("GridSample", [x, grid], 1, attributes, 20, tolerance=SUM_ERROR)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample_on_corners_and_halves(mode, padding):
    x = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    points = np.float32([-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1, 3, -3])
    grid = np.stack(np.meshgrid(points, points), axis=-1)[None].astype(np.float32)
    for align in (0, 1):
        attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
        reference = (mode, padding) != ("cubic", "border")
        check_node("GridSample", [x, grid], 1, attributes, 20, reference=reference, tolerance=(1e-4, 1e-4))


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample_survives_any_coordinate(mode, padding):
    grid = np.float32([np.nan, np.inf, -np.inf, 1e30, -1e30, 0]).reshape(1, 3, 1, 2).repeat(2, axis=0)
    inputs = [X, grid]
    model = one_node_model("GridSample", inputs, 1, {"mode": mode, "padding_mode": padding}, 20)
    (y,) = run_evaluator(model, feeds_of(model, inputs))
    assert y.shape == (2, 3, 3, 1)
    if mode != "nearest":
        assert np.isnan(y[:, :, 0]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64, np.uint64, np.bool_])
@pytest.mark.parametrize("mode, opset", [("linear", 20), ("nearest", 22), ("cubic", 20), ("bilinear", 16)])
def test_grid_sample_of_integers(mode, opset, dtype):
    """Interpolated as floats and cut off as by Cast; the reference rounds the weights, too."""
    x = (np.arange(24).reshape(1, 2, 3, 4) * 7).astype(dtype)
    grid = RNG.uniform(-1.2, 1.2, (1, 4, 5, 2)).astype(np.float32)
    model = one_node_model("GridSample", [x, grid], 1, {"mode": mode}, opset)
    feeds = feeds_of(model, [x, grid])
    actual = run_evaluator(model, feeds)
    assert_agrees(run_native(model, feeds), actual)
    name = {"bilinear": "linear"}.get(mode, mode)
    plain = one_node_model("GridSample", [x.astype(np.float64), grid], 1, {"mode": name}, 20)
    (sampled,) = run_reference(plain, {"x0": x.astype(np.float64), "x1": grid})
    if dtype is np.bool_:
        np.testing.assert_array_equal(actual[0], sampled != 0)
    else:
        inside = sampled >= 0
        np.testing.assert_allclose(actual[0][inside].astype(np.float64), np.trunc(sampled)[inside], atol=1)


def test_grid_sample_of_complex_numbers_takes_the_nearest():
    inputs = [X.astype(np.complex64), RNG.uniform(-1, 1, (2, 4, 5, 2)).astype(np.float32)]
    model = one_node_model("GridSample", inputs, 1, {"mode": "nearest"}, 20)
    plain = one_node_model("GridSample", [X, inputs[1]], 1, {"mode": "nearest"}, 20)
    (expected,) = run_evaluator(plain, {"x0": X, "x1": inputs[1]})
    assert_agrees(run_native(model, feeds_of(model, inputs)), [expected.astype(np.complex64)])
    with pytest.raises(UnsupportedError, match="not interpolated"):
        import_model(one_node_model("GridSample", inputs, 1, {}, 20))


def test_grid_sample_before_opset_20_takes_images_only():
    inputs = [np.zeros((1, 1, 2, 2, 2), np.float32), np.zeros((1, 1, 1, 1, 3), np.float32)]
    with pytest.raises(ModelError, match=r"\[N, C, H, W\]"):
        import_model(one_node_model("GridSample", inputs, opset=16))
    with pytest.raises(ModelError, match="'bilinear'"):
        import_model(one_node_model("GridSample", inputs, 1, {"mode": "bilinear"}, 20))


@pytest.mark.parametrize("frozen", [(), (1,)], ids=["run-time", "constant"])
@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("size", [(2, 3, 5, 4), (2, 1, 3, 4, 2), (2, 3, 3, 2)])
def test_affine_grid(size, align, frozen):
    rank = len(size) - 2
    theta = RNG.standard_normal((2, rank, rank + 1)).astype(np.float32)
    check_node("AffineGrid", [theta, np.array(size)], 1, {"align_corners": align}, 20, constants=frozen,
               symbolic=bool(frozen), tolerance=SUM_ERROR)


def test_affine_grid_of_a_single_position():
    theta = np.float32([[[1, 0, 0.5], [0, 1, 0.25]]])
    inputs = [theta, np.array([1, 1, 1, 2])]
    model = one_node_model("AffineGrid", inputs, 1, {"align_corners": 1}, 20, constants=(1,))
    # The reference divides zero by zero; as PyTorch has it, a single position is the centre.
    assert run_evaluator(model, {"x0": theta})[0].tolist() == [[[[-0.5, 0.25], [1.5, 0.25]]]]


COLUMNS = [  # image, block, attributes
    ((5, 5), (1, 5), {}), ((5, 6), (2, 3), {"strides": [1, 2]}), ((5, 5), (2, 2), {"dilations": [1, 3]}),
    ((4, 5), (3, 2), {"pads": [1, 0, 2, 1]}), ((6, 7), (2, 2), {"strides": [3, 2], "pads": [0, 1, 1, 0]}),
]


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("image, block, attributes", COLUMNS)
def test_col2im(image, block, attributes, symbolic):
    pads, strides = attributes.get("pads", [0] * 4), attributes.get("strides", [1, 1])
    dilations = attributes.get("dilations", [1, 1])
    reach = [dilations[axis] * (block[axis] - 1) + 1 for axis in range(2)]
    padded = [image[axis] + pads[axis] + pads[2 + axis] for axis in range(2)]
    counts = [(padded[axis] - reach[axis]) // strides[axis] + 1 for axis in range(2)]
    x = RNG.standard_normal((2, 3 * block[0] * block[1], counts[0] * counts[1])).astype(np.float32)
    check_node("Col2Im", [x, np.array(image), np.array(block)], 1, attributes, 18, constants=(1, 2),
               symbolic=symbolic)
    check_node("Col2Im", [x, np.array(image), np.array(block)], 1, attributes, 18, constants=(2,))


def test_columns_that_do_not_fit():
    inputs = [np.zeros((1, 5, 4), np.float32), np.array([3, 3]), np.array([2, 2])]
    with pytest.raises(ModelError, match="4 block elements"):
        import_model(one_node_model("Col2Im", inputs, opset=18, constants=(1, 2)))
