"""onnxruntime's operators on shapes and images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib
from tests.helpers.onnx_cases import Array, one_node_model

rng = np.random.default_rng(13)


def draw(*shape: int, dtype: Any = np.float32) -> Array:
    """Normal numbers."""
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("k", [None, 0, 1, -1, 5, -7])
@pytest.mark.parametrize("upper", [None, 0, 1])
def test_trilu(k: int | None, upper: int | None) -> None:
    x = draw(2, 4, 6) if k != 1 else rng.integers(0, 9, (4, 3))
    offset = None if k is None else np.array(k)
    check_contrib("Trilu", [x, offset], Work.EXACT, attributes={"upper": upper}, constants=(1,))


@pytest.mark.parametrize("axis", range(-4, 4))
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
def test_expand_dims(axis: int, dtype: Any) -> None:
    x = (draw(2, 3, 4) * 9).astype(dtype)
    check_contrib("ExpandDims", [x, np.array(axis, np.int32)], Work.EXACT, constants=(1,), symbolic=axis == 1)


def test_expand_dims_at_a_place_known_late_is_refused() -> None:
    model = one_node_model("ExpandDims", [draw(2), np.array(0, np.int32)], domain="com.microsoft")
    with pytest.raises(UnsupportedError, match="computed at run time"):
        import_model(model)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
def test_grid_sample(mode: str, padding: str, align: int) -> None:
    x, grid = draw(2, 3, 5, 6), rng.uniform(-1.3, 1.3, (2, 4, 3, 2)).astype(np.float32)
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
    if mode == "bicubic" and padding == "border":
        grid = grid.clip(-0.5, 0.5)
    check_contrib("GridSample", [x, grid], Work.CONTRACTION, attributes=attributes)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize(
    "window",
    [
        {"kernel_shape": [2, 2]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 2], "strides": [2, 1], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "dilations": [2, 2]},
        {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ],
    ids=str,
)
def test_nhwc_max_pool(dtype: Any, window: dict[str, Any]) -> None:
    for channels in (1, 3, 20):
        x = rng.integers(*(0, 255) if dtype is np.uint8 else (-128, 127), (2, 7, 8, channels)).astype(dtype)
        check_contrib("NhwcMaxPool", [x], Work.EXACT, attributes=window)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5, 5), (2, 2, 17, 17), (40, 40), (0, 3, 3)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inverse(shape: tuple[int, ...], dtype: Any) -> None:
    x = draw(*shape, dtype=dtype) + np.eye(shape[-1], dtype=dtype) * np.sqrt(shape[-1]) * 3
    # Rows in another order need pivots elsewhere than on the diagonal.
    check_contrib("Inverse", [x[..., ::-1, :].copy()], Work.RECURRENT, symbolic=len(shape) == 3)


def test_inverse_of_half_precision() -> None:
    for size in (2, 5, 8):
        x = draw(3, size, size) + np.eye(size, dtype=np.float32) * 6
        half = x.astype(np.float16)
        expected = np.linalg.inv(half.astype(np.float64)).astype(np.float16)
        check_contrib("Inverse", [half], Work.CONTRACTION, expected=[expected])


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(3, 2), (1, 4), (1, 1), (7, 9), (2, 1)], ids=str)
@pytest.mark.parametrize("value", [None, -1.5])
def test_crop_and_resize(mode: str, size: tuple[int, int], value: float | None) -> None:
    x = draw(2, 3, 6, 7)
    corners = np.array([[0, 0, 1, 1], [0.2, -0.1, 0.9, 1.2], [0.9, 0.8, 0.1, 0.2], [0.5, 0.5, 0.5, 0.5]])
    boxes = np.concatenate([corners, rng.uniform(-0.2, 1.2, (6, 4))]).astype(np.float32)
    batch = rng.integers(0, 2, len(boxes)).astype(np.int32)
    check_contrib(
        "CropAndResize",
        [x, boxes, batch, np.array(size, np.int32)],
        Work.CONTRACTION,
        attributes={"mode": mode, "extrapolation_value": value},
        constants=(3,),
        symbolic=mode == "bilinear" and value is None,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_range(dtype: Any) -> None:
    for start, limit, delta in ((0, 5, None), (2, 9, 3), (5, -1, -2), (3, 3, 1)):
        bounds = [None if bound is None else np.array(bound, dtype) for bound in (start, limit, delta)]
        check_contrib("Range", bounds, Work.EXACT, constants=(0, 1, 2))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pad(mode: str) -> None:
    value = np.array([1.5], np.float32) if mode == "constant" else None
    for pads in ([0, 1, 0, 2], [1, 1, 1, 1], [0, -1, 0, 0]):
        check_contrib("Pad", [draw(3, 4), np.array(pads), value], Work.EXACT, attributes={"mode": mode},
                      constants=(1, 2))  # fmt: skip


def test_gather_nd() -> None:
    for indices in ([[0, 1], [1, 2]], [[1], [0]], [[[0, 0, 3]]], [[-1, -1]]):
        check_contrib("GatherND", [draw(2, 3, 4), np.array(indices)], Work.EXACT)
