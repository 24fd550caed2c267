"""Operators on images: resizing, sampling, regions, and windows that move."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.fuzz.maker import F32, I8, I32, I64, U8, Declined, Maker, Tensor
from dlc.fuzz.sampling import Domain
from dlc.fuzz.table import operator

_COORDINATES = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"]


def _image(m: Maker, ranks: tuple[int, ...] = (4,), dtypes: tuple[Any, ...] = (F32,)) -> Tensor:
    """A value with a batch, channels and spatial axes that are not empty."""
    return m.pick(dtypes, ranks, fits=lambda t: 0 not in t.shape)


@operator("Resize", weight=2, since=11)
def resize(m: Maker, op: str) -> None:
    mode = m.chance.one_of(["nearest", "linear", "cubic"])
    x = _image(m, (4,) if mode == "cubic" else (3, 4, 5), (F32, F32, U8, I8) if mode == "nearest" else (F32,))
    coordinates = m.chance.one_of(_COORDINATES if m.opset >= 19 else _COORDINATES[:4])
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        nearest = ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]
        attributes["nearest_mode"] = m.chance.one_of(nearest)
    elif mode == "cubic" and m.chance.maybe(0.4):
        attributes["cubic_coeff_a"] = -0.5
    if mode != "nearest" and m.opset >= 18 and m.chance.maybe(0.3):
        attributes["antialias"] = 1
    if mode == "cubic" and m.chance.maybe(0.3):
        attributes["exclude_outside"] = 1
    empty = m.constant(np.zeros(0, np.float32)) if m.opset < 13 else None
    spatial = [m.chance.one_of([0.5, 1.0, 2.0, 3.0, 1.5]) for _ in range(min(x.rank - 2, 3))]
    factors = [1.0] * 2 + spatial
    if m.chance.maybe(0.5):
        m.add(op, [x, empty, m.constant(np.array(factors, np.float32))], attributes=attributes)
        return
    sizes = [max(1, int(e * f)) for e, f in zip(x.shape, factors)]
    if m.opset >= 18 and m.chance.maybe(0.4):
        attributes["axes"] = list(range(2, x.rank))
        sizes = sizes[2:]
        if m.chance.maybe(0.5):
            attributes["keep_aspect_ratio_policy"] = m.chance.one_of(["not_larger", "not_smaller"])
    none = m.constant(np.zeros(0, np.float32)) if m.opset < 13 else None
    m.add(op, [x, empty, none, m.listed(sizes)], attributes=attributes)


@operator("Upsample")
def upsample(m: Maker, op: str) -> None:
    x = _image(m)
    scales = [1.0, 1.0, m.chance.one_of([1.0, 2.0, 3.0]), m.chance.one_of([1.0, 2.0, 1.5])]
    mode = {"mode": m.chance.one_of(["nearest", "linear"])}
    if m.opset < 9:
        m.add(op, [x], attributes={**mode, "scales": scales})
    else:
        m.add(op, [x, m.constant(scales, F32)], attributes=mode)


@operator("GridSample", since=16)
def grid_sample(m: Maker, op: str) -> None:
    x = _image(m, (4, 5) if m.opset >= 20 else (4,))
    modes = ["linear", "nearest", "cubic"] if m.opset >= 20 else ["bilinear", "nearest", "bicubic"]
    attributes: dict[str, Any] = {
        "mode": m.chance.one_of(modes if x.rank == 4 else modes[:2]),
        "padding_mode": m.chance.one_of(["zeros", "border", "reflection"]),
        "align_corners": m.chance.between(0, 1),
    }
    shape = (x.shape[0], *(m.chance.between(1, 4) for _ in x.shape[2:]), x.rank - 2)
    # Off the grid of quarters: positions at half an element are ties.
    grid = m.chance.arrays.uniform(-1.3, 1.3, shape).astype(np.float32)
    m.add(op, [x, m.constant(grid)], attributes=attributes)


@operator("AffineGrid", since=20)
def affine_grid(m: Maker, op: str) -> None:
    spatial = [m.chance.between(1, 4) for _ in range(m.chance.between(2, 3))]
    batch = m.chance.between(1, 2)
    theta = m.fresh(F32, (batch, len(spatial), len(spatial) + 1))
    size = m.listed([batch, m.chance.between(1, 3), *spatial])
    # A single position is at no corner: dlc takes the centre, onnxruntime and the reference an end each.
    aligned = 0 if 1 in spatial else m.chance.between(0, 1)
    m.add(op, [theta, size], attributes={"align_corners": aligned})


@operator("RoiAlign", since=10)
def roi_align(m: Maker, op: str) -> None:
    x = _image(m)
    count = m.chance.between(1, 3)
    corner = m.chance.arrays.uniform(0, 3, (count, 2))
    boxes = np.concatenate([corner, corner + m.chance.arrays.uniform(0.5, 4, (count, 2))], axis=1)
    images = m.listed(m.chance.arrays.integers(0, x.shape[0], count).tolist())
    attributes: dict[str, Any] = {
        "output_height": m.chance.between(1, 3),
        "output_width": m.chance.between(1, 3),
        "sampling_ratio": m.chance.between(0, 2),
        "spatial_scale": m.chance.one_of([1.0, 0.5]),
        "mode": m.chance.one_of(["avg", "avg", "max"]),
    }
    if m.opset >= 16:
        attributes["coordinate_transformation_mode"] = m.chance.one_of(["half_pixel", "output_half_pixel"])
    m.add(op, [x, m.constant(boxes, F32), images], attributes=attributes)


@operator("NonMaxSuppression", since=10)
def non_max_suppression(m: Maker, op: str) -> None:
    batch, classes, number = m.chance.between(1, 2), m.chance.between(1, 2), m.chance.between(1, 6)
    corner = m.chance.arrays.uniform(0, 2, (batch, number, 2))
    boxes = np.concatenate([corner, corner + m.chance.arrays.uniform(0.5, 2, (batch, number, 2))], axis=2)
    scores = m.chance.arrays.permutation(batch * classes * number) / 16  # without ties
    operands = [
        m.constant(boxes, F32),
        m.constant(scores.reshape(batch, classes, number), F32),
        m.constant(m.chance.between(0, 4), I64)
        if m.chance.maybe(0.5)
        else m.listed([m.chance.between(1, 4)]),
        m.constant(m.chance.one_of([0.3, 0.5]), F32),
        m.constant(0.2, F32) if m.chance.maybe(0.5) else None,
    ]
    attributes = {"center_point_box": 1} if m.chance.maybe(0.2) else {}
    m.add(op, operands, rounds=False, attributes=attributes)


@operator("Col2Im", since=18)
def col2im(m: Maker, op: str) -> None:
    image = [m.chance.between(2, 5) for _ in range(m.chance.between(1, 3))]
    block = [m.chance.between(1, 2) for _ in image]
    attributes: dict[str, Any] = {}
    strides = [m.chance.between(1, 2) for _ in image]
    pads = (
        [m.chance.between(0, 1) for _ in range(2 * len(image))]
        if m.chance.maybe(0.4)
        else [0] * 2 * len(image)
    )
    if m.chance.maybe(0.5) or strides != [1] * len(image):
        attributes["strides"] = strides
    if any(pads):
        attributes["pads"] = pads
    counts = [
        (e + pads[axis] + pads[axis + len(image)] - b) // s + 1
        for axis, (e, b, s) in enumerate(zip(image, block, strides))
    ]
    channels = m.chance.between(1, 2)
    x = m.fresh(F32, (m.chance.between(1, 2), channels * int(np.prod(block)), int(np.prod(counts))))
    m.add(op, [x, m.listed(image), m.constant(block, I64)], attributes=attributes)


@operator("DeformConv", since=19)
def deformable_convolution(m: Maker, op: str) -> None:
    n, c, h, w = (
        m.chance.between(1, 2),
        m.chance.one_of([1, 2, 4]),
        m.chance.between(2, 5),
        m.chance.between(2, 5),
    )
    kernel = [m.chance.between(1, 2), m.chance.between(1, 2)]
    groups = m.chance.one_of([g for g in (1, 2) if c % g == 0])
    offsets = m.chance.one_of([g for g in (1, 2) if c % g == 0])
    pads = [m.chance.between(0, 1) for _ in range(4)]
    out = [h + pads[0] + pads[2] - kernel[0] + 1, w + pads[1] + pads[3] - kernel[1] + 1]
    taps = offsets * kernel[0] * kernel[1]
    x = m.pick((F32,), shape=(n, c, h, w), fresh=0.6)
    weights = m.fresh(F32, (groups * m.chance.between(1, 2), c // groups, *kernel))
    # Small ones that are no multiples of a half: at the border of an element the sum has a kink.
    offset = m.constant(m.chance.arrays.uniform(-0.4, 0.4, (n, 2 * taps, *out)), F32)
    bias = m.fresh(F32, (weights.shape[0],)) if m.chance.maybe(0.5) else None
    mask = m.fresh(F32, (n, taps, *out)) if m.chance.maybe(0.4) else None
    attributes = {"group": groups, "offset_group": offsets, "pads": pads, "kernel_shape": kernel}
    m.add(op, [x, weights, offset, bias, mask], attributes=attributes)


@operator("MaxUnpool", weight=0.5, since=9)
def max_unpool(m: Maker, op: str) -> None:
    """Of what MaxPool gives, whose windows do not overlap."""
    x = m.pick(
        (F32,), (4,), exact=True, fits=lambda t: t.shape[2] >= 2 and t.shape[3] >= 2 and t.array.size > 0
    )
    if len(np.unique(x.array)) < x.array.size:
        raise Declined  # of equal elements any may be the first
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    y, at = m.add("MaxPool", [x], outputs=2, rounds=False, attributes=attributes)
    m.add(op, [y, at], rounds=False, attributes=attributes)


@operator("QLinearConv", weight=0.5, since=10)
def quantized_convolution(m: Maker, op: str) -> None:
    x = m.pick((U8, I8), (3, 4), fits=lambda t: 0 not in t.shape)
    kernel = [m.chance.between(1, min(3, extent)) for extent in x.shape[2:]]
    outputs = m.chance.between(1, 4)
    w = m.fresh(I8 if x.dtype == I8 else m.chance.one_of([U8, I8]), (outputs, x.shape[1], *kernel))
    along = m.chance.maybe(0.4)
    scale = m.constant(2.0 ** m.chance.arrays.integers(-4, -1, (outputs,) if along else ()), F32)
    zero = m.constant(np.zeros((outputs,) if along else ()), w.dtype)
    quantities = [m.constant(0.25, F32), m.fresh(x.dtype, ()), w, scale, zero, m.constant(1.0, F32)]
    bias = m.fresh(I32, (outputs,), Domain(-50, 50)) if m.chance.maybe(0.5) else None
    attributes = {"pads": [m.chance.between(0, 1) for _ in range(2 * len(kernel))]}
    output = m.constant(2 * m.chance.between(0, 10), x.dtype)  # even: ties are rounded with it or without
    m.add(op, [x, *quantities, output, bias], rounds=False, attributes=attributes)
