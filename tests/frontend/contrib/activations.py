"""Cases of onnxruntime's activations, alone and after a bias."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from dlc.verify.tolerances import Work
from tests.frontend.contrib.cases import Array, Operand, Structure, normal, sizes

#: A vector, a matrix and tensors, and their extents.
SHAPES = [
    (("m",), sizes(m=[1, 7, 16, 1000])),
    (("n", "m"), sizes(n=[3, 2, 0, 5], m=[5, 17, 4, 40])),
    (("n", 3, "m"), sizes(n=[2, 1, 4], m=[33, 64, 19])),
    (("n", 1, 2, "m"), sizes(n=[4, 1], m=[19, 256])),
]
#: Half precision, for which onnxruntime has standard operators only: computed in single, rounded once.
HALF = "f = Cast <to = 1> (x0) g = com.microsoft.{} (f) y0 = Cast <to = 10> (g)"


def structures() -> Iterator[Structure]:
    """All cases."""
    yield from _alone()
    yield from _biased()
    yield from _residual()
    yield from _softmax()


def _wide(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Numbers of which one is large: onnxruntime's sigmoid has an absolute error, which it gives a scale."""
    x = np.asarray(rng.standard_normal(shape) * 4, np.float32)
    x.flat[:1] = 4
    return x


def _alone() -> Iterator[Structure]:
    for op_type in ("Gelu", "FastGelu", "QuickGelu"):
        for shape, lengths in SHAPES:
            yield Structure(op_type, [Operand(shape, _wide)], lengths)
        yield Structure(op_type, [Operand((3, 37), _wide)])
        half = Operand(("n", 40), normal(np.float16))
        yield Structure(op_type, [half], sizes(n=[1, 3, 8, 33, 2, 5, 70]), judge=HALF.format(op_type))
    for alpha in (0.5, 1.0, -1.0, 3.0):
        yield Structure("QuickGelu", [Operand((3, 20), normal())], attributes={"alpha": alpha})


def _biased() -> Iterator[Structure]:
    for op_type in ("BiasGelu", "FastGelu"):
        for shape, lengths in SHAPES:
            yield Structure(op_type, [Operand(shape, _wide), Operand(("m",), normal())], lengths)
        for width in (1, 24, 67):
            bias = Operand((width,), normal(), constant=True)
            yield Structure(op_type, [Operand(("n", width), _wide), bias], sizes(n=[1, 6, 17]))


def _residual() -> Iterator[Structure]:
    lengths = sizes(n=[1, 2, 2, 3, 1], s=[1, 3, 5, 7, 2], c=[1, 16, 33, 8, 100])
    shape, vector = ("n", "s", "c"), ("c",)
    for dtype in (np.float32, np.float64):
        x, skip, bias = (Operand(each, normal(dtype)) for each in (shape, shape, vector))
        judge = "a = Add (x0, x1) y0 = Add (a, x2)"
        yield Structure("BiasAdd", [x, bias, skip], lengths, judge=judge)
        fixed = Operand((16,), normal(dtype), constant=True)
        known = [Operand(("n", "s", 16), normal(dtype)) for _ in range(2)]
        yield Structure("BiasAdd", [known[0], fixed, known[1]], lengths, judge=judge)
        for wanted, residual in itertools.product((1, 2), (True, False)):
            mask = "r = Shape (x0) y1 = ConstantOfShape <value = bool[1] {1}> (r)" if wanted == 2 else ""
            end = "y0 = Add (a, x2)" if residual else "y0 = Identity (a)"
            ratio = Operand((), lambda rng, shape: np.float32(0.3), constant=True)
            yield Structure(
                "BiasDropout",
                [x, bias, skip if residual else None, ratio if wanted == 2 else None],
                lengths,
                outputs=wanted,
                judge=f"a = Add (x0, x1) {end} {mask}",
            )
    judge = "a = Add (x0, x1) l, r = Split <axis = -1, num_outputs = 2> (a) g = com.microsoft.Gelu (r)"
    for constant in (False, True):
        for width in (2, 8, 34, 64):
            x = Operand(("n", "s", width), _wide)
            bias = Operand((width,), normal(), constant)
            yield Structure("BiasSplitGelu", [x, bias], lengths, judge=f"{judge} y0 = Mul (l, g)")


def _softmax() -> Iterator[Structure]:
    lengths = sizes(n=[1, 2, 3], s=[1, 4, 7], t=[5, 33, 16])
    forms = [
        (("n", 3, "s", "t"), ("n", 1, 1, "t"), 3, 1),
        (("n", 3, "s", "t"), ("n", 1, "s", "t"), 3, 1),
        (("n", 3, "s", "t"), (1, 1, "s", "t"), 2, 0),
        (("n", 3, "s", "t"), (1, 3, "s", "t"), 3, 0),
        (("n", 3, "s", "t"), ("s", "t"), 3, 0),
        (("n", "s", "t"), ("n", 1, "t"), 2, 1),
        (("s", "t"), (1, "t"), 1, 0),
        (("s", "t"), ("s", "t"), 0, 0),
    ]
    for data, bias, axis, inner in forms:
        # Axes from `axis` on count as one.
        judge = f"a = Add (x0, x1) f = Flatten <axis = {axis}> (a) p = Softmax <axis = 1> (f)"
        yield Structure(
            "BiasSoftmax",
            [Operand(data, normal()), Operand(bias, normal())],
            lengths,
            Work.NORMALIZATION,
            {"axis": axis, "is_inner_broadcast": inner},
            judge=f"{judge} r = Shape (x0) y0 = Reshape (p, r)",
        )
