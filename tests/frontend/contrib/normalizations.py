"""Cases of onnxruntime's normalizations, of sums and of embeddings too."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from dlc.verify.tolerances import Work
from tests.frontend.contrib.cases import Operand, Structure, given, normal, sizes, some, uniform, whole

TEXTS = sizes(n=[1, 2, 3], s=[1, 3, 7])
WIDTHS = (8, 33, 64)
DTYPES = (np.float32, np.float32, np.float16)
NORMALIZATION = Work.NORMALIZATION


def structures() -> Iterator[Structure]:
    """All cases."""
    yield from _skip()
    yield from _skip_simplified()
    yield from _simplified()
    yield from _layer()
    yield from _embeddings()
    yield from _groups()


def _skip() -> Iterator[Structure]:
    for index, (beta, bias, epsilon) in enumerate(
        itertools.product((True, False), (True, False), (None, 1e-3))
    ):
        dtype, width = some(DTYPES, index // 2), some(WIDTHS, index)
        x, skip = (Operand(("n", "s", width), normal(dtype)) for _ in range(2))
        vectors = [Operand((width,), normal(dtype), constant=index % 3 > 0) for _ in range(3)]
        operands = [x, skip, vectors[0], vectors[1] if beta else None, vectors[2] if bias else None]
        # The second and third results are unset by onnxruntime.
        outputs: Any = ["y0", "", "", "y3"] if index % 2 else 1
        yield Structure(
            "SkipLayerNormalization", operands, TEXTS, NORMALIZATION, {"epsilon": epsilon}, outputs
        )
    for shape in ((1, "s", 24), ("s", 24), ("n", "s", 24)):
        operands = [Operand(each, normal()) for each in (("n", "s", 24), shape, (24,))]
        yield Structure("SkipLayerNormalization", operands, TEXTS, NORMALIZATION)


def _skip_simplified() -> Iterator[Structure]:
    for index, (bias, epsilon) in enumerate(itertools.product((True, False), (None, 1e-3, 1e-6))):
        dtype, width = some(DTYPES, index), some(WIDTHS, index)
        shape = ("n", width) if index == 5 else ("n", "s", width)
        x, skip = (Operand(shape, normal(dtype)) for _ in range(2))
        vectors = [Operand((width,), normal(dtype), constant=index % 3 > 0) for _ in range(2)]
        outputs: Any = ["y0", "", "", "y3"] if index % 2 else 1
        yield Structure(
            "SkipSimplifiedLayerNormalization",
            [x, skip, vectors[0], vectors[1] if bias else None],
            TEXTS,
            NORMALIZATION,
            {"epsilon": epsilon},
            outputs,
        )
    for shape in ((1, "s", 24), ("s", 24)):
        operands = [Operand(each, normal()) for each in (("n", "s", 24), shape, (24,))]
        yield Structure("SkipSimplifiedLayerNormalization", operands, TEXTS, NORMALIZATION)


def _simplified() -> Iterator[Structure]:
    """In both domains; onnxruntime has a kernel in the standard's."""
    for index, (axis, dtype) in enumerate(
        itertools.product((-1, 1, None), (np.float32, np.float64, np.float16))
    ):
        epsilon = some([1e-5, 0.1, None], index)
        # The second result is float32 in onnxruntime even of float64.
        outputs = 1 if dtype is np.float64 else 2
        scale = (3, 17) if axis == 1 else (17,)
        operands = [
            Operand(("n", 3, 17), normal(dtype)),
            Operand(scale, normal(dtype), constant=index % 2 > 0),
        ]
        shown = ", ".join([f"epsilon = {epsilon or 1e-5:.5f}", *([] if axis is None else [f"axis = {axis}"])])
        judge = f"y0{', y1' * (outputs - 1)} = SimplifiedLayerNormalization <{shown}> (x0, x1)"
        for domain in ("", "com.microsoft"):
            yield Structure(
                "SimplifiedLayerNormalization",
                operands,
                TEXTS,
                NORMALIZATION,
                {"axis": axis, "epsilon": epsilon},
                outputs,
                domain=domain,
                judge=judge if domain else "",
            )


def _layer() -> Iterator[Structure]:
    """In onnxruntime's domain, and in the standard's before opset 17 had it."""
    for index, (axis, bias, outputs) in enumerate(itertools.product((-1, 1), (True, False), (1, 3))):
        shape = (3, 17) if axis == 1 else (17,)
        operands = [Operand(("n", 3, 17), normal()), Operand(shape, normal(), constant=index % 2 > 0)]
        operands += [Operand(shape, normal())] if bias else []
        names = ", ".join(f"x{position}" for position in range(len(operands)))
        results = ", ".join(f"y{position}" for position in range(outputs))
        attributes = {"axis": axis, "epsilon": 1e-4}
        common = "LayerNormalization", operands, TEXTS, NORMALIZATION, attributes, outputs
        judge = f"{results} = LayerNormalization <axis = {axis}, epsilon = 0.0001> ({names})"
        yield Structure(*common, judge=judge)
        yield Structure(*common, domain="", opset=some([9, 13, 16], index))


def _ids(high: int, shape: tuple[Any, ...] = ("n", "s")) -> Operand:
    return Operand(shape, whole(np.int32, 0, high - 1))


def _embeddings() -> Iterator[Structure]:
    for index, (segments, masked, positions) in enumerate(
        itertools.product((True, False), (True, False), (None, ("n", "s"), (1, "s")))
    ):
        tables = [
            Operand((rows, 24), normal(), constant=index % 2 > 0) if rows else None
            for rows in (10, 9, 2 * segments)
        ]
        vectors = [Operand((24,), normal(), constant=True) for _ in range(2)]
        mask = _ids(3) if masked else None
        places = None if positions is None else _ids(9, positions)
        yield Structure(
            "EmbedLayerNormalization",
            [_ids(10), _ids(2) if segments else None, *tables, *vectors, mask, places],
            TEXTS,
            NORMALIZATION,
            {"epsilon": some([None, 1e-5], index), "mask_index_type": some([None, 1], index)},
            # onnxruntime's type inference wants the second result named.
            outputs=some([2, 3], index),
        )
    for segments, masked, dtype in itertools.product((True, False), (True, False), (np.uint8, np.int8)):
        stored = [
            Operand(shape, whole(dtype), constant=masked)
            for shape in ((10, 24), (9, 24), (2, 24), (24,), (24,))
        ]
        scales = [Operand((), uniform(0.01, 0.1), constant=True) for _ in range(5)]
        zeros = [given(some([0, 1, 127], place), dtype) for place in range(5)]
        if dtype is np.uint8:
            zeros[:2] = given(128, dtype), given(255, dtype)
        if not segments:
            stored[2:3] = scales[2:3] = zeros[2:3] = [None]  # type: ignore[list-item]
        mask = _ids(3) if masked else None
        operands = [_ids(10), _ids(2) if segments else None, *stored, mask, *scales, *zeros]
        yield Structure(
            "QEmbedLayerNormalization",
            operands,
            TEXTS,
            NORMALIZATION,
            outputs=2,
            judge=_dequantized(segments, masked),
        )


def _dequantized(segments: bool, masked: bool) -> str:
    """EmbedLayerNormalization of tables that are dequantized first; onnxruntime's kernel reads unsigned ones
    only.
    """
    present = [place for place in range(5) if segments or place != 2]
    lines = [f"d{p} = DequantizeLinear (x{p + 2}, x{p + 8}, x{p + 13})" for p in present]
    tables = ", ".join(f"d{p}" if p in present else "" for p in range(5))
    operands = f"x0, {'x1' if segments else ''}, {tables}{', x7' if masked else ''}"
    return "\n".join([*lines, f"y0, y1 = com.microsoft.EmbedLayerNormalization ({operands})"])


def _groups() -> Iterator[Structure]:
    """GroupNorm and SkipGroupNorm, spelled with the standard's operators."""
    images = sizes(n=[1, 2, 3], h=[5, 2, 1], w=[3, 7, 1])
    for index, (groups, activation, last) in enumerate(itertools.product((1, 2, 8), (0, 1), (None, 0))):
        shape = ("n", "h", "w", 8) if last is None else ("n", 8, "h", "w")
        attributes = {"groups": groups, "activation": activation, "channels_last": last}
        attributes["epsilon"] = some([1e-4, None], index)
        x = Operand(shape, normal())
        vectors = [Operand((8,), normal(), constant=index % 2 > 0) for _ in range(2)]
        end = _group_norm("t", groups, some([1e-4, 1e-5], index), activation)
        before, after = _moves(last is None)
        yield Structure(
            "GroupNorm",
            [x, *vectors],
            images,
            NORMALIZATION,
            attributes,
            judge=f"t = {before} (x0) {end} y0 = {after} (z)",
        )
        form = some([shape, ("n", 1, 1, 8) if last is None else ("n", 8, 1, 1), ("n", 8)], index)
        skip = "s = Identity (x3)" if len(form) == 4 else "a = Constant <value_ints = [2, 3]> () "
        skip += "" if len(form) == 4 else "s = Unsqueeze (x3, a)"
        skip = skip if len(form) == 2 else f"s = {before} (x3)"
        bias = Operand((8,), normal()) if index % 2 else None
        lines = f"i = {before} (x0) {skip} u = Add (i, s) "
        lines += (
            "c = Constant <value_ints = [8, 1, 1]> () v = Reshape (x4, c) t = Add (u, v)"
            if bias
            else "t = Identity (u)"
        )
        yield Structure(
            "SkipGroupNorm",
            [x, *vectors, Operand(form, normal()), bias],
            images,
            NORMALIZATION,
            attributes,
            outputs=2,
            judge=f"{lines} {end} y0 = {after} (z) y1 = {after} (t)",
        )


def _moves(last: bool) -> tuple[str, str]:
    if not last:
        return "Identity", "Identity"
    return "Transpose <perm = [0, 3, 1, 2]>", "Transpose <perm = [0, 2, 3, 1]>"


def _group_norm(x: str, groups: int, epsilon: float, activation: int) -> str:
    """z: the normalized image `x` [N, 8, H, W], as GroupNormalization's definition has it."""
    return f"""
        r = Shape ({x})
        f = Constant <value_ints = [0, {groups}, -1]> ()
        g = Reshape ({x}, f)
        ones = Constant <value_floats = {[1.0] * groups}> ()
        zeros = Constant <value_floats = {[0.0] * groups}> ()
        m = InstanceNormalization <epsilon = {epsilon:.5f}> (g, ones, zeros)
        o = Reshape (m, r)
        e = Constant <value_ints = [8, 1, 1]> ()
        k = Reshape (x1, e)
        l = Reshape (x2, e)
        p = Mul (o, k)
        q = Add (p, l)
        w = Sigmoid (q)
        z = {"Mul (q, w)" if activation else "Identity (q)"}
    """
