"""Products of 8-bit matrices have the evaluator's bits, whatever the types, zero points and sizes."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.target import CpuTarget
from tests.backends.cpu.harness import each_target
from tests.backends.cpu.templates.integer_kernels import IntegerCase, numbers, numpy_type

TYPES = ("u8", "i8")
#: Zero points of each type: its ends, what turning the sign bit makes of them, and their neighbours.
ZEROS = {"u8": (0, 1, 127, 128, 255), "i8": (0, 1, 127, -1, -128)}


def text(x: str, w: str, m: object, n: int, k: int, zeros: str = "xw", epilogue: str = "sum[i, o]") -> str:
    """x[m, k] times the constant w[k, n]; `zeros` says which operands have zero points."""
    left = "i32(x[i, c])" + (" - i32(zx[])" if "x" in zeros else "")
    right = "i32(w[c, o])" + (" - i32(zw[])" if "w" in zeros else "")
    points = [f"read zx: {x}[]"] * ("x" in zeros) + [f"read constant zw: {w}[]"] * ("w" in zeros)
    symbol = ["symbol m"] if m == "m" else []
    lines = [
        *symbol,
        f"read x: {x}[{m}, {k}]",
        f"read constant w: {w}[{k}, {n}]",
        *points,
        f"write y: i32[{m}, {n}]",
        f"axis i: {m}",
        f"axis o: {n}",
        f"axis c: {k} reduce",
        f"for i, o: sum: i32 = contract over c of {left}, {right} with rows(i) columns(o)",
        f"for i, o: y[i, o] = {epilogue}",
    ]
    return "kernel product {\n" + "\n".join(f"  {line}" for line in lines) + "\n}\n"


def operands(x: str, w: str, m: int, n: int, k: int) -> dict[str, np.ndarray]:
    return {"x": numbers(1, x, m, k), "w": numbers(2, w, k, n)}


def scalar(dtype: str, value: int) -> np.ndarray:
    return np.array(value, numpy_type(dtype))


@each_target
@pytest.mark.parametrize("x", TYPES)
@pytest.mark.parametrize("w", TYPES)
def test_signedness_and_zero_points(target: CpuTarget, x: str, w: str) -> None:
    m, n, k = 9, 37, 67
    case = IntegerCase(text(x, w, m, n, k), target, "integer_matmul")
    values = operands(x, w, m, n, k)
    for zx in ZEROS[x]:
        for zw in ZEROS[w]:
            case.check({**values, "zx": scalar(x, zx), "zw": scalar(w, zw)})
    IntegerCase(text(x, w, m, n, k, ""), target, "integer_matmul").check(values)
    only_left = IntegerCase(text(x, w, m, n, k, "x"), target, "integer_matmul")
    only_left.check({**values, "zx": scalar(x, 77)})


@each_target
@pytest.mark.parametrize("k", [*range(1, 10), 63, 64, 65, 1300])
@pytest.mark.parametrize("x", TYPES)
def test_depths(target: CpuTarget, k: int, x: str) -> None:
    m, n = (5, 35) if k > 100 else (40, 131)
    case = IntegerCase(text(x, "u8", m, n, k), target, "integer_matmul")
    case.check({**operands(x, "u8", m, n, k), "zx": scalar(x, 3), "zw": scalar("u8", 200)})


@each_target
@pytest.mark.parametrize("n", [1, 15, 16, 17, 48, 64, 65, 131])
def test_columns_and_run_time_rows(target: CpuTarget, n: int) -> None:
    k = 36
    case = IntegerCase(text("u8", "i8", "m", n, k), target, "integer_matmul")
    for m in (0, 1, 2, 3, 6, 7, 13, 200):
        values = operands("u8", "i8", m, n, k)
        case.check({**values, "zx": scalar("u8", 128), "zw": scalar("i8", -3)}, {"m": m})


@each_target
@pytest.mark.parametrize(("x", "high"), [("u8", 255), ("i8", -128)])
@pytest.mark.parametrize(("w", "low"), [("i8", -128), ("u8", 255)])
def test_extremes_do_not_saturate(target: CpuTarget, x: str, high: int, w: str, low: int) -> None:
    m, n, k = 7, 33, 4096
    values = {"x": np.full((m, k), high, numpy_type(x)), "w": np.full((k, n), low, numpy_type(w))}
    IntegerCase(text(x, w, m, n, k, ""), target, "integer_matmul").check(values)


@each_target
def test_sums_wrap(target: CpuTarget) -> None:
    m, n, k = 2, 16, 34000
    values = {"x": np.full((m, k), 255, np.uint8), "w": np.full((k, n), 255, np.uint8)}
    zeros = {"zx": scalar("u8", 0), "zw": scalar("u8", 0)}
    IntegerCase(text("u8", "u8", m, n, k), target, "integer_matmul").check({**values, **zeros})
