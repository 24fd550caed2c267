"""Cases of onnxruntime's operators on shapes and images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from dlc.verify.tolerances import Work
from tests.frontend.contrib.cases import (
    Array,
    Extent,
    Operand,
    Structure,
    given,
    normal,
    sizes,
    some,
    uniform,
    whole,
)

IMAGES = sizes(n=[2, 1, 3], h=[5, 9, 8], w=[6, 7, 12])


def structures() -> Iterator[Structure]:
    """All cases."""
    yield from _axes()
    yield from _images()
    yield from _inverses()
    yield from _crops()


def _axes() -> Iterator[Structure]:
    lengths = sizes(n=[2, 1, 5], m=[4, 7, 3])
    for k, upper in itertools.product((None, 0, 1, -1, 5, -7), (None, 0, 1)):
        dtype = np.int64 if k == 1 else np.float64 if k == -1 else np.float32
        x = Operand((2, "n", "m"), whole(dtype, 0, 9) if dtype is np.int64 else normal(dtype))
        offset = None if k is None else given(k, np.int64)
        yield Structure("Trilu", [x, offset], lengths, Work.EXACT, {"upper": upper})
    for axis, dtype in zip(range(-4, 4), itertools.cycle((np.float32, np.int64, np.uint8, np.float16))):
        x = Operand(("n", 3, "m"), normal(dtype, scale=9) if dtype is not np.uint8 else whole(dtype))
        yield Structure("ExpandDims", [x, given(axis, np.int32)], lengths, Work.EXACT)
    for start, limit, delta in ((0, 5, None), (2, 9, 3), (5, -1, -2), (3, 3, 1)):
        for dtype in (np.float32, np.int64):
            bounds = [None if bound is None else given(bound, dtype) for bound in (start, limit, delta)]
            yield Structure("Range", bounds, work=Work.EXACT)
    for mode, pads in itertools.product(("constant", "reflect", "edge"), ([0, 1, 0, 2], [1, 1, 1, 1])):
        value = given([1.5], np.float32) if mode == "constant" else None
        x = Operand(("n", "m"), normal())
        kept = [size for size in lengths if size["n"] > 1]
        yield Structure("Pad", [x, given(pads, np.int64), value], kept, Work.EXACT, {"mode": mode})
    for indices in ([[0, 1], [1, 2]], [[1], [0]], [[[0, 0, 3]]], [[-1, -1]]):
        x = Operand((2, 3, "m"), normal())
        operands = [x, given(indices, np.int64, constant=False)]
        yield Structure("GatherND", operands, sizes(m=[4, 9]), Work.EXACT)


def _images() -> Iterator[Structure]:
    modes = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection"), (0, 1)
    for mode, padding, align in itertools.product(*modes):
        far = 0.5 if (mode, padding) == ("bicubic", "border") else 1.3
        operands = [Operand(("n", 3, "h", "w"), normal()), Operand(("n", 4, 3, 2), uniform(-far, far))]
        attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
        yield Structure("GridSample", operands, IMAGES[:2], Work.CONTRACTION, attributes)
    windows: list[dict[str, Any]] = [
        {"kernel_shape": [2, 2]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 2], "strides": [2, 1], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "dilations": [2, 2]},
        {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ]
    for index, (dtype, window) in enumerate(itertools.product((np.uint8, np.int8), windows)):
        x = Operand(("n", "h", "w", some([1, 3, 20], index)), whole(dtype))
        yield Structure("NhwcMaxPool", [x], IMAGES, Work.EXACT, window)


def _inverses() -> Iterator[Structure]:
    def far_from_singular(dtype: Any) -> Any:
        def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
            strong = np.eye(shape[-1]) * np.sqrt(shape[-1]) * 3
            # Rows in another order need pivots elsewhere than on the diagonal.
            return (rng.standard_normal(shape) + strong)[..., ::-1, :].astype(dtype)

        return draw

    shapes: list[tuple[Extent, ...]] = [("k", "k"), ("n", "k", "k"), ("n", 2, "k", "k"), (3, 40, 40)]
    lengths = sizes(n=[2, 1, 0], k=[1, 5, 17])
    for dtype, shape in itertools.product((np.float32, np.float64), shapes):
        kept = lengths if "k" in shape else lengths[:1]
        yield Structure("Inverse", [Operand(shape, far_from_singular(dtype))], kept, Work.RECURRENT)
    judge = "a = Cast <to = 1> (x0) b = com.microsoft.Inverse (a) y0 = Cast <to = 10> (b)"
    half = [Operand((3, "k", "k"), far_from_singular(np.float16))]
    yield Structure("Inverse", half, sizes(k=[2, 5, 8]), Work.CONTRACTION, judge=judge)


def _boxes(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Boxes: the whole image, beyond it, from right to left, a point, and any."""
    corners = [[0, 0, 1, 1], [0.2, -0.1, 0.9, 1.2], [0.9, 0.8, 0.1, 0.2], [0.5, 0.5, 0.5, 0.5]]
    return np.concatenate([corners, rng.uniform(-0.2, 1.2, (6, 4))]).astype(np.float32)


def _crops() -> Iterator[Structure]:
    for mode, size, value in itertools.product(
        ("bilinear", "nearest"), ((3, 2), (1, 4), (1, 1), (7, 9)), (None, -1.5)
    ):
        operands = [
            Operand((2, 3, "h", "w"), normal()),
            Operand((10, 4), _boxes),
            Operand((10,), whole(np.int32, 0, 1)),
            given(size, np.int32),
        ]
        attributes = {"mode": mode, "extrapolation_value": value}
        yield Structure("CropAndResize", operands, IMAGES[:2], Work.CONTRACTION, attributes)
