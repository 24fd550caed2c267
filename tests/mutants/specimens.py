"""Small models that between them exercise every part of the compiler, for the search for planted faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from tests.helpers.drafts import FLOAT, INT64, UINT8, Draft
from tests.helpers.recipes import Array

Feeds = Mapping[str, Array]
INT32, INT8, BOOL = onnx.TensorProto.INT32, onnx.TensorProto.INT8, onnx.TensorProto.BOOL


@dataclass(frozen=True)
class Specimen:
    """A model and inputs for it. onnxruntime has the right answers, but for inputs that dlc must refuse:
    those in `refused`, with the name of the error."""

    name: str
    model: onnx.ModelProto
    feeds: tuple[Feeds, ...]
    refused: tuple[tuple[Feeds, str], ...] = ()


#: Builders of the specimens by name.
BUILDERS: dict[str, Callable[[], Specimen]] = {}


def specimen(build: Callable[[], Specimen]) -> Callable[[], Specimen]:
    """Register a builder under its name."""
    BUILDERS[build.__name__] = build
    return build


def numbers(seed: int, *shape: int, scale: float = 1.0) -> Array:
    """Normal float32 numbers."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def _output(name: str, dtype: int = FLOAT) -> tuple[str, int, None]:
    return name, dtype, None


@specimen
def convolutions() -> Specimen:
    """Blocked layout from end to end, with sizes known at run time only.

    Halos, lanes beyond the last channel, odd rows and columns, a folded norm, a residual, a reduction.
    """
    d = Draft()
    x = d.add(
        "Conv",
        ["x", d.weight("w1", 24, 3, 3, 3), d.weight("b1", 24)],
        "c1",
        pads=[1, 0, 1, 2],
        strides=[1, 2],
    )
    statistics = [
        d.weight("n.weight", 24),
        d.weight("n.bias", 24),
        d.weight("mean", 24),
        d.weight("n.running_var", 24),
    ]
    x = d.add("Relu", [d.add("BatchNormalization", [x, *statistics], "n1", epsilon=0.3)], "r1")
    y = d.add("Conv", [x, d.weight("w2", 24, 1, 3, 3), d.weight("b2", 24)], "c2", pads=[1, 1, 1, 1], group=24)
    y = d.add("Exp", [d.add("Neg", [d.add("Abs", [y], "a2")], "m2")], "e2")
    y = d.add("Conv", [y, d.weight("w3", 24, 24, 3, 3)], "c3", pads=[2, 2, 2, 2], dilations=[2, 2])
    x = d.add("Add", [d.add("Relu", [y], "r3"), x], "sum")
    x = d.add("Conv", [x, d.weight("w4", 40, 24, 1, 1), d.weight("b4", 40)], "c4")
    d.add("ReduceMean", [d.add("Relu", [x], "r4")], "y", axes=[2, 3], keepdims=0)
    d.add("MaxPool", ["sum"], "z", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])
    model = d.model([("x", FLOAT, ["n", 3, "h", "w"])], [_output("y"), _output("z")], 17)
    return Specimen("convolutions", model, ({"x": numbers(1, 2, 3, 13, 22)}, {"x": numbers(2, 1, 3, 30, 9)}))


@specimen
def fixed_convolutions() -> Specimen:
    """Known sizes: register tiles with remainders in rows and columns, groups, joined results."""
    d = Draft()
    x = d.add(
        "Relu",
        [d.add("Conv", ["x", d.weight("w1", 32, 20, 3, 3), d.weight("b1", 32)], "c1", pads=[1] * 4)],
        "r1",
    )
    y = d.add("Conv", [x, d.weight("w2", 32, 16, 3, 3)], "c2", pads=[1] * 4, group=2)
    weights = [d.weight("w3", 32, 24, 3, 3), d.weight("b3", 24)]
    y = d.add("ConvTranspose", [y, *weights], "t3", strides=[2, 2], pads=[1, 1, 0, 0])
    d.add("AveragePool", [y], "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    pooled = d.add("Conv", [x, d.weight("w4", 32, 32, 1, 1)], "c4")
    joined = d.add("Concat", [d.add("Sigmoid", [pooled], "s4"), x], "joined", axis=1)
    d.add("Conv", [joined, d.weight("w5", 16, 64, 5, 5)], "y", pads=[2] * 4)
    d.add("Conv", ["wide", d.weight("w6", 16, 3, 3, 3)], "broad", strides=[2, 1], pads=[1] * 4)
    outputs = [_output("y"), _output("p"), _output("broad")]
    model = d.model([("x", FLOAT, [2, 20, 7, 5]), ("wide", FLOAT, [1, 3, 6, 31])], outputs, 17)
    return Specimen(
        "fixed_convolutions", model, ({"x": numbers(3, 2, 20, 7, 5), "wide": numbers(4, 1, 3, 6, 31)},)
    )


@specimen
def tiled_convolutions() -> Specimen:
    """Convolutions by Winograd's algorithm: cut tiles, a dilated one, several strips, two images."""
    d = Draft()
    x = d.add("Conv", ["x", d.weight("w1", 32, 24, 3, 3), d.weight("b1", 32)], "c1", pads=[1] * 4)
    x = d.add("Relu", [x], "r1")
    x = d.add("Conv", [x, d.weight("w2", 32, 32, 3, 3)], "c2", pads=[2, 3, 2, 3], dilations=[2, 3])
    d.add("Conv", [x, d.weight("w3", 20, 32, 3, 3)], "y", pads=[1] * 4)
    model = d.model([("x", FLOAT, ["n", 24, 15, 18])], [_output("y")], 17)
    return Specimen("tiled_convolutions", model, ({"x": numbers(7, 2, 24, 15, 18)},))


@specimen
def products() -> Specimen:
    """Matrix products: a depth of several blocks, odd rows and columns, epilogues, batches, parts."""
    d = Draft()
    h = d.add("Gemm", ["x", d.weight("w1", 53, 300), d.weight("b1", 53)], "h", transB=1, beta=0.5)
    h = d.add("Mul", [d.add("Relu", [h], "r"), d.weight("scale", 53)], "m")
    wide = d.add("MatMul", [h, d.weight("w2", 53, 53)], "wide")
    d.add("Add", [wide, d.weight("b2", 53)], "y")
    part = d.add("MatMul", ["x", d.weight("w3", 300, 40)], "whole")
    d.add(
        "Slice",
        [part, *(d.constant(n, v, np.int64) for n, v in (("s0", [3]), ("s1", [17]), ("s2", [1])))],
        "part",
    )
    head = [d.constant(n, v, np.int64) for n, v in (("h0", [0]), ("h1", [11]), ("h2", [1]))]
    d.add("Slice", [d.add("MatMul", ["x", d.weight("w4", 300, 40)], "other"), *head], "head")
    scores = d.add("MatMul", ["a", d.add("Transpose", ["a"], "at", perm=[0, 2, 1])], "square")
    d.add("Add", [scores, d.add("Transpose", [scores], "st", perm=[0, 2, 1])], "both")
    model = d.model(
        [("x", FLOAT, ["n", 300]), ("a", FLOAT, ["batch", "k", 19])],
        [_output("y"), _output("part"), _output("head"), _output("both")],
        17,
    )
    return Specimen(
        "products",
        model,
        (
            {"x": numbers(4, 13, 300), "a": numbers(5, 3, 21, 19)},
            {"x": numbers(6, 1, 300), "a": numbers(7, 1, 5, 19)},
        ),
    )


@specimen
def attention() -> Specimen:
    """Scores with a mask, a softmax of large numbers, heads split and joined by transposes and reshapes."""
    d = Draft()
    parts = []
    for name in ("q", "k", "v"):
        y = d.add("MatMul", ["x", d.weight(f"w{name}", 24, 24)], f"{name}1")
        y = d.add("Reshape", [y, d.constant(f"heads{name}", [0, 0, 3, 8], np.int64)], f"{name}2")
        parts.append(d.add("Transpose", [y], f"{name}3", perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]))
    scores = d.add("Mul", [d.add("MatMul", parts[:2], "scores"), d.constant("scale", 40.0)], "scaled")
    hidden = d.add("Where", ["mask", d.constant("zero", 0.0), d.constant("low", -1e9)], "hidden")
    weights = d.add("Softmax", [d.add("Add", [scores, hidden], "masked")], "weights")
    y = d.add("Transpose", [d.add("MatMul", [weights, parts[2]], "heads")], "joined", perm=[0, 2, 1, 3])
    y = d.add("Reshape", [y, d.constant("flat", [0, 0, 24], np.int64)], "flatter")
    mean = d.add("ReduceMean", [d.add("Add", [y, "x"], "res")], "mean", axes=[-1])
    centred = d.add("Sub", ["res", mean], "centred")
    variance = d.add("ReduceMean", [d.add("Mul", [centred, centred], "square")], "variance", axes=[-1])
    deviation = d.add("Sqrt", [d.add("Add", [variance, d.constant("eps", 0.2)], "shifted")], "deviation")
    y = d.add("Mul", [d.add("Div", [centred, deviation], "normal"), d.weight("gain.weight", 24)], "gained")
    d.add("Mul", [y, d.add("Sigmoid", [y], "gate")], "y")
    model = d.model(
        [("x", FLOAT, ["n", "length", 24]), ("mask", BOOL, ["n", 1, 1, "length"])], [_output("y")], 17
    )

    def feeds(seed: int, batch: int, length: int) -> Feeds:
        mask = np.arange(length) < length - np.arange(batch)[:, None]
        return {"x": numbers(seed, batch, length, 24), "mask": mask[:, None, None]}

    return Specimen("attention", model, (feeds(8, 2, 19), feeds(9, 1, 5)))


@specimen
def broadcasting() -> Specimen:
    """Pointwise operators whose extents meet at run time only, and movement of all kinds."""
    d = Draft()
    d.add("Add", ["a", "b"], "sum")
    d.add("Mul", [d.add("Sub", ["sum", d.weight("column", 7, 1)], "less"), "c"], "y")
    turned = d.add("Transpose", ["sum"], "turned", perm=[2, 0, 1])
    d.add("Transpose", [turned], "again", perm=[1, 0, 2])
    d.add("Relu", [turned], "cycled")
    back = [d.constant(n, v, np.int64) for n, v in (("i0", [-1]), ("i1", [-1000]), ("i2", [2]), ("i3", [-2]))]
    reverse = d.add("Slice", ["sum", *back], "reverse")
    padded = d.add(
        "Pad", [reverse, d.constant("pads", [0, 1, 2, 0, 0, 3], np.int64), d.constant("fill", 7.0)], "padded"
    )
    d.add("Concat", [padded, d.add("Neg", [padded], "minus")], "joined", axis=1)
    mirror = d.constant("mirror", [0, 2, 0, 0, 1, 0], np.int64)
    d.add("Pad", ["sum", mirror], "mirrored", mode="reflect")
    d.add("Reshape", ["sum", d.constant("merged", [0, -1], np.int64)], "flat")
    d.add("Where", [d.add("Greater", ["sum", "c"], "more"), "sum", d.constant("nothing", -1.0)], "chosen")
    names = ("y", "again", "cycled", "joined", "mirrored", "flat", "chosen")
    model = d.model(
        [("a", FLOAT, ["p", 7, "q"]), ("b", FLOAT, ["r", 1, "s"]), ("c", FLOAT, ["q"])],
        [_output(name) for name in names],
        17,
    )

    def feeds(p: int, q: int, r: int, s: int) -> Feeds:
        return {"a": numbers(p, p, 7, q), "b": numbers(q, r, 1, s), "c": numbers(s, q)}

    refused = (feeds(3, 18, 2, 18), "ShapeError"), (feeds(3, 18, 3, 5), "ShapeError")
    return Specimen(
        "broadcasting", model, (feeds(3, 18, 1, 18), feeds(2, 5, 2, 1), feeds(3, 18, 3, 18)), refused
    )


@specimen
def reductions() -> Specimen:
    """Sums, extremes and their places over long, short and odd rows; ties, NaN, numbers below zero only."""
    d = Draft()
    d.add("ReduceSum", ["x", d.constant("last", [1], np.int64)], "sums", keepdims=0)
    d.add("ReduceSum", ["x", d.constant("first", [0], np.int64)], "columns")
    d.add("ReduceMax", ["below"], "most", axes=[1])
    d.add("ReduceMin", [d.add("Neg", ["below"], "above")], "least", axes=[1])
    near = d.add("Exp", [d.add("Mul", ["x", d.constant("tiny", 0.01)], "less")], "near")
    d.add("ReduceProd", [near], "product", axes=[1])
    for name, attributes in (("early", {}), ("late", {"select_last_index": 1})):
        d.add("ArgMax", ["ties"], name, axis=1, keepdims=0, **attributes)
        d.add("ArgMin", ["ties"], f"{name}_low", axis=0, keepdims=0, **attributes)
    d.add("ReduceLogSumExp", [d.add("Mul", ["x", d.constant("large", 90.0)], "huge")], "logs", axes=[1])
    d.add("Softmax", ["huge"], "soft", axis=0)
    d.add("CumSum", ["x", d.constant("axis", 1, np.int64)], "running", reverse=1, exclusive=1)
    d.add("TopK", ["ties", d.constant("k", [3], np.int64)], ["best", "places"], axis=1)
    outputs = [
        _output(name)
        for name in ("sums", "columns", "most", "least", "product", "logs", "soft", "running", "best")
    ]
    places = [_output(name, INT64) for name in ("early", "late", "early_low", "late_low", "places")]
    model = d.model(
        [("x", FLOAT, ["n", "m"]), ("below", FLOAT, ["n", "m"]), ("ties", FLOAT, ["n", "m"])],
        [*outputs, *places],
        17,
    )

    def feeds(seed: int, n: int, m: int) -> Feeds:
        ties = np.random.default_rng(seed).integers(0, 3, (n, m)).astype(np.float32)
        return {"x": numbers(seed, n, m), "below": -np.abs(numbers(seed + 1, n, m)) - 0.5, "ties": ties}

    return Specimen("reductions", model, (feeds(11, 5, 419), feeds(13, 3, 37)))


@specimen
def special_values() -> Specimen:
    """NaN, infinities and halves through extremes, rectifiers and roundings; integers of both signs."""
    d = Draft()
    d.add("Max", ["x", "z"], "most")
    d.add("Min", ["x", "z"], "least")
    d.add("Relu", ["x"], "rectified")
    d.add("Clip", ["x", d.constant("low", -1.5), d.constant("high", 6.0)], "clipped")
    d.add("Round", ["x"], "rounded")
    d.add("QuantizeLinear", ["finite", d.constant("scale", 0.5), d.constant("zero", 3, np.int8)], "codes")
    d.add("QuantizeLinear", ["finite", "scale", d.constant("middle", 128, np.uint8)], "bytes")
    d.add("Div", ["i", "j"], "quotient")
    d.add("Mod", ["i", "j"], "rest")
    d.add("Cast", ["finite"], "whole", to=INT32)
    d.add("Sign", ["x"], "sign")
    d.add("Greater", ["x", "z"], "greater")
    model = d.model(
        [
            ("x", FLOAT, ["n"]),
            ("z", FLOAT, ["n"]),
            ("finite", FLOAT, ["n"]),
            ("i", INT64, ["n"]),
            ("j", INT64, ["n"]),
        ],
        [
            *(_output(n) for n in ("most", "least", "rectified", "clipped", "rounded", "sign")),
            _output("codes", INT8),
            _output("bytes", UINT8),
            _output("quotient", INT64),
            _output("rest", INT64),
            _output("whole", INT32),
            _output("greater", BOOL),
        ],
        17,
    )
    some = np.array([np.nan, np.inf, -np.inf, 0.5, 1.5, -0.5, -2.5, 3e38, -0.0, 7.0, -1.0], np.float32)
    pairs = np.stack(np.meshgrid(some, some)).reshape(2, -1)
    count = pairs.shape[1]
    finite = np.linspace(-80, 80, count, dtype=np.float32).round(2)
    finite[:8] = [0.25, 0.75, 1.25, -0.25, -0.75, 1000.0, -1000.0, 63.75]
    i = np.arange(count) * 37 % 41 - 20
    j = np.where(np.arange(count) % 7 < 3, -(np.arange(count) % 5) - 1, np.arange(count) % 6 + 1)
    feeds = {"x": pairs[0].copy(), "z": pairs[1].copy(), "finite": finite, "i": i, "j": j}
    return Specimen(
        "special_values", model, (feeds, {name: array[5:12].copy() for name, array in feeds.items()})
    )


@specimen
def quantized() -> Specimen:
    """Zero points other than zero in convolution, products and on the way in and out."""
    d = Draft()
    rng = np.random.default_rng(17)
    d.constant("scale", 0.05)
    d.constant("zero", 131, np.uint8)
    codes = d.add("QuantizeLinear", ["x", "scale", "zero"], "codes")
    real = d.add("DequantizeLinear", [codes, "scale", "zero"], "real")
    d.constant("taps", rng.integers(-90, 90, (18, 4, 3, 3)), np.int8)
    d.constant("tap_scales", rng.uniform(0.002, 0.01, 18))
    taps = d.add(
        "DequantizeLinear",
        ["taps", "tap_scales", d.constant("tap_zeros", np.zeros(18), np.int8)],
        "tap",
        axis=0,
    )
    y = d.add("Conv", [real, taps, d.weight("bias", 18)], "conv", pads=[1, 1, 1, 1])
    y = d.add("ReduceMean", [y], "mean", axes=[2, 3], keepdims=0)
    d.add("Identity", [y], "y")
    d.constant("matrix", rng.integers(0, 255, (29, 21)), np.uint8)
    d.add(
        "MatMulInteger",
        ["bytes", "matrix", d.constant("left", 127, np.uint8), d.constant("right", 9, np.uint8)],
        "sums",
    )
    model = d.model(
        [("x", FLOAT, ["n", 4, "h", 9]), ("bytes", UINT8, ["m", 29])],
        [_output("y"), _output("codes", UINT8), _output("sums", INT32)],
        17,
    )

    def feeds(seed: int, n: int, h: int, m: int) -> Feeds:
        values = np.random.default_rng(seed).integers(0, 256, (m, 29)).astype(np.uint8)
        return {"x": numbers(seed, n, 4, h, 9, scale=3), "bytes": values}

    return Specimen("quantized", model, (feeds(18, 2, 7, 5), feeds(19, 1, 3, 1)))


@specimen
def indices() -> Specimen:
    """Elements chosen by data: negative indices, sums at equal places, indices out of range."""
    d = Draft()
    d.add("Gather", [d.weight("table", 23, 20), "i"], "rows", axis=0)
    d.add("GatherElements", ["x", "j"], "picked", axis=1)
    flat = d.add("Unsqueeze", ["i", d.constant("end", [1], np.int64)], "points")
    zeros = d.constant("zeros", np.zeros((23, 20)))
    d.add("ScatterND", [zeros, flat, "rows"], "added", reduction="add")
    d.add("ScatterElements", ["x", "k", "updates"], "gathered", axis=1, reduction="add")
    operands = [("x", FLOAT, ["m", 12]), ("updates", FLOAT, ["m", 40]), ("j", INT64, ["m", 5])]
    model = d.model(
        [("i", INT64, ["n"]), *operands, ("k", INT64, ["m", 40])],
        [_output("rows"), _output("picked"), _output("added"), _output("gathered")],
        17,
    )

    def feeds(seed: int, n: int, m: int) -> dict[str, Array]:
        rng = np.random.default_rng(seed)
        places = {
            "i": rng.integers(-4, 4, n),
            "j": rng.integers(-12, 12, (m, 5)),
            "k": rng.integers(0, 12, (m, 40)),
        }
        return {**places, "x": numbers(seed, m, 12), "updates": numbers(seed + 1, m, 40)}

    far, low = feeds(22, 9, 4), feeds(23, 9, 4)
    far["i"][7], low["j"][3, 2] = 23, -13
    return Specimen(
        "indices", model, (feeds(20, 33, 7), feeds(21, 6, 2)), ((far, "IndexFault"), (low, "IndexFault"))
    )


@specimen
def recurrence() -> Specimen:
    """Both directions over sequences of different lengths, with states."""
    d = Draft()
    lstm = [d.weight("w1", 2, 80, 9), d.weight("r1", 2, 80, 20), d.weight("b1", 2, 160), "lengths"]
    d.add("LSTM", ["x", *lstm], ["all", "h", "c"], hidden_size=20, direction="bidirectional")
    gru = [d.weight("w2", 1, 39, 9), d.weight("r2", 1, 39, 13), d.weight("b2", 1, 78), "", "start"]
    d.add("GRU", ["x", *gru], ["steps", "last"], hidden_size=13, linear_before_reset=1, direction="reverse")
    d.add("RNN", ["x", d.weight("w3", 1, 11, 9), "own"], ["plain", "end"], hidden_size=11)
    operands = [("x", ["t", "n", 9]), ("start", [1, "n", 13]), ("own", [1, 11, 11])]
    model = d.model(
        [("lengths", INT32, ["n"]), *((name, FLOAT, shape) for name, shape in operands)],
        [_output(name) for name in ("all", "h", "c", "steps", "last", "plain", "end")],
        17,
    )

    def feeds(seed: int, t: int, n: int) -> Feeds:
        lengths = np.random.default_rng(seed).integers(1, t + 1, n).astype(np.int32)
        states = {"start": numbers(seed + 1, 1, n, 13), "own": numbers(seed + 2, 1, 11, 11, scale=0.3)}
        return {"x": numbers(seed, t, n, 9), "lengths": lengths, **states}

    return Specimen("recurrence", model, (feeds(24, 7, 5), feeds(26, 3, 1)))


@specimen
def memory() -> Specimen:
    """Many values alive at once, of sizes that change their order with the symbols; results over operands."""
    d = Draft()
    steps = ["x"]
    for step in range(6):
        y = d.add("MatMul", [steps[-1], d.weight(f"w{step}", 24 + 4 * step, 28 + 4 * step)], f"p{step}")
        steps.append(d.add("Softmax", [y], f"s{step}"))
    products = [
        d.add("ReduceSum", [name, d.constant(f"axis_{name}", [1], np.int64)], f"sum_{name}") for name in steps
    ]
    total = products[0]
    for name in products[1:]:
        total = d.add("Add", [total, name], f"t_{name}")
    cross = d.add("MatMul", ["x", d.add("Transpose", ["x"], "xt", perm=[1, 0])], "cross")
    soft = d.add("Softmax", [cross], "cross_soft")
    even = d.add("Add", [soft, d.add("Transpose", [soft], "soft_turned", perm=[1, 0])], "even")
    mixed = d.add("MatMul", [even, steps[2]], "mixed")
    lifted = d.add("MatMul", [d.add("Exp", [steps[3]], "lifted"), d.weight("w8", 36, 24)], "raised")
    kept = d.add("Add", [lifted, d.add("MatMul", [steps[3], d.weight("w9", 36, 24)], "plain")], "kept")
    turned = d.add("Mul", [d.add("Add", [mixed, d.weight("shift", 32)], "moved"), "mixed"], "doubled")
    d.add("Add", [d.add("MatMul", [turned, d.weight("w7", 32, 24)], "narrow"), "x"], "y")
    d.add("Add", [total, kept], "z")
    model = d.model([("x", FLOAT, ["n", 24])], [_output("y"), _output("z")], 13)
    return Specimen(
        "memory", model, ({"x": numbers(27, 9, 24)}, {"x": numbers(28, 200, 24)}, {"x": numbers(29, 1, 24)})
    )


def all_specimens(names: Sequence[str] = ()) -> list[Specimen]:
    """The specimens of these names, or all."""
    return [build() for name, build in BUILDERS.items() if not names or name in names]
