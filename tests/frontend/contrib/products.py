"""Cases of onnxruntime's matrix products and convolutions with what was fused to them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from dlc.verify.tolerances import Work
from tests.frontend.contrib.cases import Operand, Structure, given, normal, sizes, some

ACTIVATIONS: list[tuple[str, dict[str, float]]] = [
    ("Relu", {}),
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("Softplus", {}),
    ("Softsign", {}),
    ("LeakyRelu", {"alpha": 0.2}),
    ("Elu", {"alpha": 0.7}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    ("Selu", {"alpha": 1.5, "gamma": 1.1}),
    ("ThresholdedRelu", {"alpha": 0.4}),
]
#: What onnxruntime fuses to convolutions, with the parameters in order.
CONV_ACTIVATIONS: list[tuple[str, list[float]]] = [
    ("Relu", []),
    ("Sigmoid", []),
    ("Tanh", []),
    ("LeakyRelu", [0.1]),
    ("Clip", [0.0, 6.0]),
    ("HardSigmoid", [0.25, 0.5]),
]
WINDOWS: list[dict[str, Any]] = [
    {},
    {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]},
    {"strides": [2, 1], "pads": [0, 1, 2, 1]},
    {"dilations": [2, 2]},
    {"auto_pad": "SAME_UPPER"},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"auto_pad": "VALID", "strides": [1, 3]},
]
IMAGES = sizes(n=[1, 2, 3], h=[9, 6, 13], w=[8, 7, 5])


def structures() -> Iterator[Structure]:
    """All cases."""
    yield from _matmul()
    yield from _gemm()
    yield from _conv()
    yield from _channels_last()
    yield from _transposed()
    yield from _distances()


def _matmul() -> Iterator[Structure]:
    lengths = sizes(b=[1, 3], m=[5, 1], k=[7, 64], n=[9, 33])
    for index, (trans_a, trans_b, batch) in enumerate(itertools.product((0, 1), (0, 1), (0, 1, 2))):
        outer = ("b", 2)[:batch]
        a, b = ("k", "m") if trans_a else ("m", "k"), ("n", "k") if trans_b else ("k", "n")
        dtype = some([np.float32, np.float32, np.float64], index)
        operands = [Operand((*outer, *each), normal(dtype)) for each in (a, b)]
        attributes = {"transA": trans_a, "transB": trans_b, "alpha": some([None, 0.25, 1.0], index // 2)}
        yield Structure("FusedMatMul", operands, lengths, Work.CONTRACTION, attributes)
    for trans_a, trans_b in itertools.product((0, 1), (0, 1)):
        # [M, batches..., K] and [K, batches..., N].
        a, b = ("k", 3, "m") if trans_a else ("m", 3, "k"), ("n", 3, "k") if trans_b else ("k", 3, "n")
        attributes = {"transA": trans_a, "transB": trans_b, "transBatchA": 1, "transBatchB": 1}
        operands = [Operand(each, normal()) for each in (a, b)]
        yield Structure("FusedMatMul", operands, lengths, Work.CONTRACTION, attributes)
    weights = Operand((20, 24), normal(), constant=True)
    for trans in (0, 1):
        x = Operand(("b", "m", 24 if trans else 20), normal())
        attributes = {"transB": trans, "alpha": 0.5}
        yield Structure("FusedMatMul", [x, weights], lengths, Work.CONTRACTION, attributes)
    half = "a = Cast <to = 1> (x0) b = Cast <to = 1> (x1) c = com.microsoft.FusedMatMul <alpha = 0.5> (a, b)"
    operands = [Operand(each, normal(np.float16)) for each in (("m", "k"), ("k", "n"))]
    yield Structure(
        "FusedMatMul",
        operands,
        lengths,
        Work.CONTRACTION,
        {"alpha": 0.5},
        judge=f"{half} y0 = Cast <to = 10> (c)",
    )


def _gemm() -> Iterator[Structure]:
    lengths = sizes(m=[6, 1], k=[8, 33], n=[20, 5])
    for index, (name, parameters) in enumerate(ACTIVATIONS):
        attributes: dict[str, Any] = {"activation": name}
        attributes |= {f"activation_{key}": value for key, value in parameters.items()}
        attributes |= some([{}, {"alpha": 0.5, "beta": 2.0}, {"beta": 0.0}], index)
        trans_a, trans_b = some([0, 1], index), some([0, 0, 1, 1], index)
        attributes |= {"transA": trans_a, "transB": trans_b}
        a = Operand(("k", "m") if trans_a else ("m", "k"), normal())
        b = Operand(("n", "k") if trans_b else ("k", "n"), normal())
        c = some([("n",), None, ("m", "n"), (), (1, "n"), ("m", 1)], index)
        operands = [a, b, None if c is None else Operand(c, normal())]
        yield Structure("FusedGemm", operands, lengths, Work.CONTRACTION, attributes)
    for name, _ in ACTIVATIONS[:3]:
        weights, bias = (Operand(each, normal(), constant=True) for each in ((33, 8), (33,)))
        yield Structure(
            "FusedGemm",
            [Operand(("m", 8), normal()), weights, bias],
            lengths,
            Work.CONTRACTION,
            {"activation": name, "transB": 1},
        )


def _conv() -> Iterator[Structure]:
    image = Operand(("n", 4, "h", "w"), normal())
    for index, window in enumerate(WINDOWS):
        name, parameters = some(CONV_ACTIVATIONS, index)
        group = some([1, 2], index)
        w = Operand((6, 4 // group, 3, 3), normal(scale=0.3), constant=index % 3 > 0)
        bias = Operand((6,), normal(), constant=index % 2 > 0) if index % 4 else None
        attributes = {"activation": name, "activation_params": parameters or None, "group": group, **window}
        yield Structure("FusedConv", [image, w, bias], IMAGES, Work.CONTRACTION, attributes)
    for bias in (Operand((8,), normal(), constant=True), None):
        w, total = Operand((8, 2, 3, 3), normal(), constant=True), Operand(("n", 8, "h", "w"), normal())
        attributes = {"activation": "Relu", "group": 2, "pads": [1, 1, 1, 1]}
        yield Structure("FusedConv", [image, w, bias, total], IMAGES, Work.CONTRACTION, attributes)
    line, depth = Operand(("n", 3, "h"), normal()), Operand(("n", 2, "h", "w", 4), normal())
    for x, shape in ((line, (5, 3, 4)), (depth, (4, 2, 2, 3, 2))):
        w = Operand(shape, normal(scale=0.3), constant=True)
        yield Structure("FusedConv", [x, w], IMAGES, Work.CONTRACTION, {"activation": "Tanh"})


def _channels_last() -> Iterator[Structure]:
    for op_type, (index, window) in itertools.product(("NhwcConv", "NhwcFusedConv"), enumerate(WINDOWS)):
        fused = op_type == "NhwcFusedConv"
        name, parameters = some(CONV_ACTIVATIONS, index)
        group = some([2, 1], index)
        x = Operand(("n", "h", "w", 4), normal())
        # Tools write the weights of NhwcConv with channels last; its description has them first.
        last = not fused and index != 3
        filters = (6, 3, 3, 4 // group) if last else (6, 4 // group, 3, 3)
        w = Operand(filters, normal(scale=0.3), constant=index % 2 > 0)
        bias = Operand((6,), normal(), constant=True) if index % 3 else None
        attributes: dict[str, Any] = {"group": group, **window}
        spelled = ", ".join(
            f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}"
            for key, value in attributes.items()
        )
        if fused:
            attributes |= {"activation": name, "activation_params": parameters or None}
            given_parameters = f", activation_params = {parameters}" if parameters else ""
            spelled += f', activation = "{name}"{given_parameters}'
        operator = "com.microsoft.FusedConv" if fused else "Conv"
        names = "w, x2" if bias else "w"
        judge = f"""
            a = Transpose <perm = [0, 3, 1, 2]> (x0)
            w = {"Transpose <perm = [0, 3, 1, 2]>" if last else "Identity"} (x1)
            b = {operator} <{spelled}> (a, {names})
            y0 = Transpose <perm = [0, 2, 3, 1]> (b)"""
        yield Structure(op_type, [x, w, bias], IMAGES, Work.CONTRACTION, attributes, judge=judge)
    total = Operand(("n", "h", "w", 6), normal())
    w = Operand((6, 4, 1, 1), normal(scale=0.3), constant=True)
    judge = """
        a = Transpose <perm = [0, 3, 1, 2]> (x0)
        t = Transpose <perm = [0, 3, 1, 2]> (x3)
        b = com.microsoft.FusedConv <activation = "Relu"> (a, x1, , t)
        y0 = Transpose <perm = [0, 2, 3, 1]> (b)"""
    yield Structure(
        "NhwcFusedConv", [x, w, None, total], IMAGES, Work.CONTRACTION, {"activation": "Relu"}, judge=judge
    )


def _transposed() -> Iterator[Structure]:
    pads = [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 2, 1]]
    forms: list[dict[str, Any]] = [
        {},
        {"strides": [2, 2], "output_padding": [1, 0]},
        {"dilations": [1, 2], "kernel_shape": [3, 3]},
        {"group": 3, "strides": [1, 2]},
    ]
    for index, (pad, form) in enumerate(itertools.product(pads, forms)):
        x = Operand(("n", 3, "h", "w"), normal())
        w = Operand((3, 4, 3, 3), normal(), constant=index % 2 > 0)
        bias = Operand((4 * form.get("group", 1),), normal(), constant=True) if index % 3 else None
        yield Structure(
            "ConvTransposeWithDynamicPads", [x, w, given(pad), bias], IMAGES[:2], Work.CONTRACTION, form
        )


def _distances() -> Iterator[Structure]:
    lengths = sizes(m=[1, 5, 8, 3], k=[1, 7, 33, 64], n=[2, 9, 1, 20])
    for dtype, metric in itertools.product((np.float32, np.float64), (None, "sqeuclidean", "euclidean")):
        operands = [Operand((rows, "k"), normal(dtype)) for rows in ("m", "n")]
        yield Structure("CDist", operands, lengths, Work.CONTRACTION, {"metric": metric})
