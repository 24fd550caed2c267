"""Convolutions of 8-bit integers have the evaluator's bits, whatever the geometry, types and zero points."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from dlc.target import CpuTarget
from tests.backends.cpu.harness import each_target
from tests.backends.cpu.templates.integer_kernels import IntegerCase, numbers, numpy_type

TYPES = ("u8", "i8")
ZEROS = {"u8": (0, 1, 127, 128, 255), "i8": (0, 1, 127, -1, -128)}


@dataclasses.dataclass(frozen=True)
class Geometry:
    """A convolution of [n, g * c, h, w] by [g * o, c, k, l]; `zeros` says which operands have zero points."""

    channels: int
    outputs: int
    size: tuple[int, int]
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: int = 0
    images: int = 2
    groups: int = 1
    x: str = "u8"
    w: str = "i8"
    zeros: str = "xw"
    symbolic: bool = False

    def outputs_along(self, axis: int) -> int:
        reach = (self.kernel[axis] - 1) * self.dilation[axis]
        return (self.size[axis] + 2 * self.pad - reach - 1) // self.stride[axis] + 1

    def text(self, epilogue: str = "sum[n, {g}o, p, q]", result: str = "i32") -> str:
        """The kernel as the rules write it after its operands' conversions went into it."""
        n, (h, w) = self.images, self.size
        outs: Sequence[object] = [self.outputs_along(axis) for axis in (0, 1)]
        extents: Sequence[object] = [h, w]
        symbols = []
        if self.symbolic:
            extents, outs = ["h", "w"], []
            for axis, name in enumerate("hw"):
                reach = (self.kernel[axis] - 1) * self.dilation[axis]
                more, stride = 2 * self.pad - reach - 1, self.stride[axis]
                least = max(1, -more)
                symbols.append(f"symbol {name}: {least}..")
                quotient = f"{name} + {more}" if stride == 1 else f"floordiv({name} + {more}, {stride})"
                outs.append(f"{quotient} + 1".replace("+ -", "- "))
        g = "g, " if self.groups > 1 else ""
        channel = f"{self.channels}*g + c" if g else "c"
        feature = f"{self.outputs}*g + o" if g else "o"
        ys = [
            f"{self.stride[axis]}*{p} + {self.dilation[axis]}*{r} - {self.pad}"
            for axis, p, r in ((0, "p", "r"), (1, "q", "s"))
        ]
        mask = f"0 <= {ys[0]} < {extents[0]}, 0 <= {ys[1]} < {extents[1]}"
        guard = f" | {mask} | 0:{self.x}" if self.pad else ""
        left = f"i32(x[n, {channel}, {ys[0]}, {ys[1]}{guard}])"
        if "x" in self.zeros:
            left += f" - i32(zx[{f' | {mask} | 0:{self.x}' if self.pad else ''}])"
        if self.pad:
            conditions = [f"iota({y}) >= iota(0)" for y in ys], [
                f"iota({y}) < iota({extent})" for y, extent in zip(ys, extents)
            ]
            (a, c), (b, d) = conditions
            left = f"select(and(and(and({a}, {b}), {c}), {d}), {left}, 0:i32)"
        right = f"i32(w[{feature}, c, r, s])" + (f" - i32(zw[{feature}])" if "w" in self.zeros else "")
        batch = "batch(g) " if g else ""
        windows = " ".join(
            f"window({p}, {r}, {self.stride[axis]}, {self.dilation[axis]}, {self.pad})"
            for axis, p, r in ((0, "p", "r"), (1, "q", "s"))
        )
        features, total = self.groups * self.outputs, self.groups * self.channels
        lines = [
            *symbols,
            f"read x: {self.x}[{n}, {total}, {extents[0]}, {extents[1]}]",
            f"read constant w: {self.w}[{features}, {self.channels}, {self.kernel[0]}, {self.kernel[1]}]",
            *([f"read zx: {self.x}[]"] if "x" in self.zeros else []),
            *([f"read constant zw: {self.w}[{features}]"] if "w" in self.zeros else []),
            *([f"read constant bias: i32[{features}]"] if "bias" in epilogue else []),
            f"write y: {result}[{n}, {features}, {outs[0]}, {outs[1]}]",
            f"axis n: {n}",
            *([f"axis g: {self.groups}"] if g else []),
            f"axis o: {self.outputs}",
            f"axis p: {outs[0]}",
            f"axis q: {outs[1]}",
            f"axis c: {self.channels} reduce",
            f"axis r: {self.kernel[0]} reduce",
            f"axis s: {self.kernel[1]} reduce",
            f"for n, {g}o, p, q: sum: i32 = contract over c, r, s of {left}, {right} "
            f"with {batch}rows(n, p, q) columns(o) {windows}",
            f"for n, {g}o, p, q: y[n, {feature}, p, q] = {epilogue.format(g=g)}",
        ]
        return "kernel convolution {\n" + "\n".join(f"  {line}" for line in lines) + "\n}\n"

    def values(self) -> dict[str, np.ndarray]:
        features, total = self.groups * self.outputs, self.groups * self.channels
        values = {
            "x": numbers(1, self.x, self.images, total, *self.size),
            "w": numbers(2, self.w, features, self.channels, *self.kernel),
        }
        if "x" in self.zeros:
            values["zx"] = np.array(7, numpy_type(self.x))
        if "w" in self.zeros:
            values["zw"] = numbers(3, self.w, features)
        return values

    def check(self, target: CpuTarget) -> None:
        """Compile and run, at several sizes if they are symbolic."""
        case = IntegerCase(self.text(), target, "integer_convolution")
        case.check(self.values(), dict(zip("hw", self.size)) if self.symbolic else {})


GEOMETRIES = {
    "1x1": Geometry(12, 20, (7, 9)),
    "1x1 stride 2": Geometry(8, 17, (9, 8), stride=(2, 2)),
    "3x3": Geometry(5, 18, (9, 11), (3, 3), pad=1),
    "3x3 without padding": Geometry(16, 16, (8, 21), (3, 3)),
    "3x3 stride 2": Geometry(6, 13, (11, 14), (3, 3), (2, 2), pad=1),
    "3x3 dilation 2": Geometry(4, 12, (13, 12), (3, 3), dilation=(2, 2), pad=2),
    "stride 3, dilation 2": Geometry(4, 9, (23, 29), (3, 3), (3, 3), (2, 2), pad=1),
    "different axes": Geometry(7, 10, (9, 40), (1, 5), (2, 1), (1, 3), pad=2),
    "7x7 stride 2 of 3 channels": Geometry(3, 16, (32, 37), (7, 7), (2, 2), pad=3),
    "7x7 images": Geometry(32, 50, (7, 7), (3, 3), pad=1),
    "groups": Geometry(6, 10, (8, 9), (3, 3), pad=1, groups=3),
    "one position": Geometry(64, 33, (1, 1)),
    "kernel of the image": Geometry(9, 7, (5, 5), (5, 5)),
    "wide rows": Geometry(3, 5, (3, 150), (3, 3), pad=1),
    "wide rows, stride 2": Geometry(6, 13, (5, 140), (3, 3), (2, 2), pad=1),
    "wide rows, groups": Geometry(5, 7, (6, 61), (3, 3), dilation=(1, 2), pad=2, groups=2),
    "pad beyond the kernel": Geometry(4, 6, (3, 2), (2, 2), pad=4),
}


@each_target
@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("x", TYPES)
def test_geometries(target: CpuTarget, name: str, x: str) -> None:
    dataclasses.replace(GEOMETRIES[name], x=x, w="u8").check(target)


@each_target
@pytest.mark.parametrize("name", ["1x1", "3x3", "3x3 stride 2", "stride 3, dilation 2", "groups"])
def test_sizes_at_run_time(target: CpuTarget, name: str) -> None:
    dataclasses.replace(GEOMETRIES[name], symbolic=True).check(target)


@each_target
@pytest.mark.parametrize("x", TYPES)
@pytest.mark.parametrize("w", TYPES)
@pytest.mark.parametrize("zeros", ["", "x", "w", "xw"])
def test_signedness_and_zero_points(target: CpuTarget, x: str, w: str, zeros: str) -> None:
    geometry = Geometry(5, 9, (6, 7), (3, 3), pad=1, images=1, x=x, w=w, zeros=zeros)
    case = IntegerCase(geometry.text(), target, "integer_convolution")
    for zx in ZEROS[x]:
        for zw in ZEROS[w]:
            values = geometry.values()
            points = {"zx": np.array(zx, numpy_type(x)), "zw": np.full(9, zw, numpy_type(w))}
            case.check({**values, **{name: point for name, point in points.items() if name in values}})


@each_target
@pytest.mark.parametrize("channels", [*range(1, 10), 63, 65])
def test_channels(target: CpuTarget, channels: int) -> None:
    Geometry(channels, 11, (5, 6), (2, 2), pad=1, images=1).check(target)


@each_target
@pytest.mark.parametrize(("x", "high"), [("u8", 255), ("i8", -128)])
@pytest.mark.parametrize(("w", "low"), [("i8", -128), ("u8", 255)])
def test_extremes_do_not_saturate(target: CpuTarget, x: str, high: int, w: str, low: int) -> None:
    geometry = Geometry(64, 12, (5, 5), (3, 3), pad=1, images=1, x=x, w=w, zeros="")
    extremes = {"x": high, "w": low}
    values = {name: np.full_like(value, extremes[name]) for name, value in geometry.values().items()}
    IntegerCase(geometry.text(), target, "integer_convolution").check(values)


@each_target
def test_axes_of_one_point_that_the_index_leaves_out(target: CpuTarget) -> None:
    geometry = Geometry(16, 24, (9, 10), images=1)
    text = geometry.text().replace("x[n, c,", "x[0, c,").replace("w[o, c, r, s]", "w[o, c, 0, 0]")
    IntegerCase(text, target, "integer_convolution").check(geometry.values())


@each_target
def test_requantization(target: CpuTarget) -> None:
    geometry = Geometry(16, 24, (9, 10), (3, 3), pad=1)
    epilogue = "u8.saturate(round(f32(sum[n, o, p, q] + bias[o]) * 0.001) + 12.0)"
    case = IntegerCase(geometry.text(epilogue, "u8"), target, "integer_convolution")
    bias = np.random.default_rng(4).integers(-1000, 1000, 24).astype(np.int32)
    case.check({**geometry.values(), "bias": bias})
