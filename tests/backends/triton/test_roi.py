"""RoiAlign by generated functions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("triton")
from dlc.backends.triton.emulate import emulate_kernel
from dlc.backends.triton.select import emit_kernel
from dlc.errors import IndexFault
from tests.backends.triton.running import aligned, assert_compiles, both, kernel_of

RNG = np.random.default_rng(9)
ROIS = np.array(
    [
        *([0, 0, 9, 7], [2.5, 1.5, 4, 3], [-3, -2, 2, 1], [8, 6, 20, 15]),
        *([5, 5, 5, 5], [6, 6, 3, 2], [50, 50, 60, 60]),
    ],
    np.float32,
)


def roi_align(
    mode: str = "avg", ratio: int = 0, half: bool = True, dtype: str = "f32", rois: str = "7"
) -> str:
    symbol = "symbol n\n  " if rois == "n" else ""
    return f"""kernel roi {{
  {symbol}read x: {dtype}[2, 3, 8, 10]
  read rois: {dtype}[{rois}, 4]
  read images: i64[{rois}]
  write y: {dtype}[{rois}, 3, 2, 3]
  routine roi_align(x, rois, images, y; mode="{mode}", output_height=2, output_width=3, sampling_ratio={
        ratio}, spatial_scale=0.5, half_pixel={str(half).lower()})
}}"""


def operands(dtype: str = "float32") -> dict[str, np.ndarray]:
    return {
        "x": RNG.standard_normal((2, 3, 8, 10)).astype(dtype),
        "rois": (ROIS * 2).astype(dtype),
        "images": np.array([0, 1, 0, 1, 0, 1, 0], np.int64),
    }


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("half", [True, False])
def test_regions(mode: str, ratio: int, half: bool) -> None:
    ((got, want),) = both(kernel_of(roi_align(mode, ratio, half)), operands())
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("dtype", "name", "tolerance"), [("f16", "float16", 2e-3), ("f64", "float64", 1e-12)]
)
def test_types(dtype: str, name: str, tolerance: float) -> None:
    ((got, want),) = both(kernel_of(roi_align(dtype=dtype)), operands(name))
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def test_no_regions() -> None:
    arrays = {**operands(), "rois": np.zeros((0, 4), np.float32), "images": np.zeros(0, np.int64)}
    ((got, _),) = both(kernel_of(roi_align(rois="n")), arrays, {"n": 0})
    assert got.shape == (0, 3, 2, 3)


@pytest.mark.parametrize("image", [-1, 2])
def test_images_that_are_not_there(image: int) -> None:
    arrays = {**operands(), "y": np.zeros((7, 3, 2, 3), np.float32)}
    arrays["images"][3] = image
    memory = {name: aligned(array).reshape(-1) for name, array in arrays.items()}
    with pytest.raises(IndexFault):
        emulate_kernel(emit_kernel(kernel_of(roi_align())), memory, {})


def test_compiles() -> None:
    assert_compiles(kernel_of(roi_align(rois="n")), [80])
    assert_compiles(kernel_of(roi_align("max", 2, dtype="f16")), [90])
