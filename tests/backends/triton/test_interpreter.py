"""Triton functions under the interpreter: numbers against NumPy, memory between red zones, errors, traces."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("triton")

from dlc.backends.triton.function import TritonFunction
from dlc.backends.triton.interpreter import interpret
from dlc.errors import InternalError
from dlc.ir.dtypes import DType
from tests.helpers.gpu_kernels import Array, Guarded, attention, gelu, kernel, matmul, random_array, softmax

#: Relative and absolute error of one rounding to the result's type.
EPSILON = {DType.F32: 1e-5, DType.F16: 1e-3, DType.BF16: 8e-3, DType.F8E4M3FN: 0.07, DType.F8E5M2: 0.13}
X_TO_Y = (("x", DType.F32), ("y", DType.F32))


def run(function: TritonFunction, grid: tuple[int, ...], *arrays: Array, scalars: Any = ()) -> list[Array]:
    """The arrays as `function` leaves them; nothing around them has changed."""
    guarded = [Guarded(array) for array in arrays]
    interpret(function, grid, [buffer.array for buffer in guarded], scalars)
    assert all(buffer.is_intact() for buffer in guarded)
    return [buffer.array.reshape(array.shape) for buffer, array in zip(guarded, arrays)]


def assert_close(actual: Array, expected: Array, dtype: DType) -> None:
    tolerance = EPSILON[dtype]
    np.testing.assert_allclose(actual.astype(np.float64), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", EPSILON, ids=lambda dtype: dtype.text)
def test_pointwise(dtype: DType) -> None:
    x = random_array((100,), dtype, 1)
    _, y = run(gelu(dtype, 64), (2,), x, np.zeros_like(x), scalars=[100])
    wide = x.astype(np.float64)
    assert_close(y, wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2))), dtype)


@pytest.mark.parametrize("dtype", [DType.F32, DType.F16, DType.BF16], ids=lambda dtype: dtype.text)
def test_softmax(dtype: DType) -> None:
    x = random_array((5, 37), dtype, 2)
    _, y = run(softmax(dtype, 37, 64), (5,), x, np.zeros_like(x))
    e = np.exp(x.astype(np.float64))
    assert_close(y, e / e.sum(axis=1, keepdims=True), dtype)


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (DType.F32, DType.F32),
        (DType.F16, DType.F16),
        (DType.BF16, DType.BF16),
        (DType.F8E4M3FN, DType.F32),
        (DType.F8E5M2, DType.F16),
        (DType.F16, DType.F32),
    ],
    ids=lambda dtype: dtype.text,
)
def test_matmul(dtype: DType, result: DType) -> None:
    a, b = random_array((35, 72), dtype, 3), random_array((20, 72), dtype, 4)
    function = matmul(dtype, result, 20, 72, (32, 16, 32))
    c = run(function, (2, 2), a, b, np.zeros((35, 20), result.numpy), scalars=[35])[2]
    wide = a.astype(np.float64) @ b.astype(np.float64).T
    np.testing.assert_allclose(c.astype(np.float64), wide, rtol=EPSILON[result], atol=1e-4)


def test_matmul_of_int8_is_exact() -> None:
    a, b = random_array((35, 72), DType.I8, 3), random_array((20, 72), DType.I8, 4)
    a[0], b[0] = -128, -128
    function = matmul(DType.I8, DType.I32, 20, 72, (32, 16, 32))
    c = run(function, (2, 2), a, b, np.zeros((35, 20), np.int32), scalars=[35])[2]
    np.testing.assert_array_equal(c, a.astype(np.int32) @ b.astype(np.int32).T)


@pytest.mark.parametrize("dtype", [DType.F32, DType.F16, DType.BF16], ids=lambda dtype: dtype.text)
def test_attention(dtype: DType) -> None:
    q, k, v = (random_array((rows, 16), dtype, rows) for rows in (19, 45, 45))
    function = attention(dtype, 16, (16, 32))
    o = run(function, (2,), q, k, v, np.zeros_like(q), scalars=[19, 45])[3]
    scores = np.exp(q.astype(np.float64) @ k.astype(np.float64).T / 8)
    expected = scores / scores.sum(axis=1, keepdims=True) @ v.astype(np.float64)
    np.testing.assert_allclose(o.astype(np.float64), expected, rtol=EPSILON[dtype], atol=2 * EPSILON[dtype])


def conversion(source: DType, target: DType, kind: str, count: int) -> TritonFunction:
    body = f"""
i = tl.arange(0, {count})
tl.store(y + i, tl.load(x + i).to({kind}))
"""
    return kernel(body, (("x", source), ("y", target)))


@pytest.mark.parametrize(
    ("target", "kind"),
    [(DType.BF16, "tl.bfloat16"), (DType.F8E4M3FN, "tl.float8e4nv"), (DType.F8E5M2, "tl.float8e5")],
    ids=lambda value: getattr(value, "text", ""),
)
def test_conversions_round_to_nearest_even(target: DType, kind: str) -> None:
    exact = np.arange(1 << target.bits, dtype=f"u{target.bits // 8}").view(target.numpy).astype(np.float32)
    finite = np.sort(exact[np.isfinite(exact)])
    ties = (finite[1:].astype(np.float64) + finite[:-1]) / 2
    x = np.resize(np.concatenate([exact, ties.astype(np.float32)]), 1 << 17)
    _, y = run(conversion(DType.F32, target, kind, x.size), (1,), x, np.zeros(x.size, target.numpy))
    limit = np.float32(ml_dtypes.finfo(target.numpy).max) if target.bits == 8 else np.float32(np.inf)
    with np.errstate(invalid="ignore"):
        expected = np.clip(x, -limit, limit).astype(y.dtype).astype(np.float32)
        np.testing.assert_array_equal(y.astype(np.float32), expected)


@pytest.mark.parametrize(
    ("text", "expected"), [("1e6", 448.0), ("float('inf')", 448.0), ("-float('inf')", -448.0)]
)
def test_fp8_saturates_as_the_hardware_does(text: str, expected: float) -> None:
    body = f"tl.store(y, (tl.load(x) + {text}).to(tl.float8e4nv))"
    function = kernel(body, (("x", DType.F32), ("y", DType.F8E4M3FN)))
    _, y = run(function, (1,), np.zeros(1, np.float32), np.zeros(1, ml_dtypes.float8_e4m3fn))
    assert float(y[0]) == expected


@pytest.mark.parametrize("source", [DType.BF16, DType.F8E4M3FN, DType.F8E5M2], ids=lambda d: d.text)
def test_widening_is_exact(source: DType) -> None:
    x = np.arange(1 << source.bits, dtype=f"u{source.bits // 8}").view(source.numpy)
    _, y = run(conversion(source, DType.F32, "tl.float32", x.size), (1,), x, np.zeros(x.size, np.float32))
    np.testing.assert_array_equal(y, x.astype(np.float32))


def test_conversions_between_small_types() -> None:
    x = random_array((64,), DType.F8E5M2, 5)
    _, y = run(conversion(DType.F8E5M2, DType.BF16, "tl.bfloat16", 64), (1,), x, np.zeros(64, "bfloat16"))
    np.testing.assert_array_equal(y.astype(np.float32), x.astype(np.float32))
    _, z = run(conversion(DType.BF16, DType.F16, "tl.float16", 64), (1,), y, np.zeros(64, np.float16))
    np.testing.assert_array_equal(z.astype(np.float32), x.astype(np.float32))
    _, n = run(conversion(DType.BF16, DType.I32, "tl.int32", 64), (1,), y, np.zeros(64, np.int32))
    np.testing.assert_array_equal(n, np.trunc(x.astype(np.float32)).astype(np.int32))


@pytest.mark.parametrize(
    "body",
    [
        "tl.store(y + i, v + v)",
        "tl.store(y + i, -v)",
        "tl.store(y + i, tl.where(v > v, v, v))",
        "tl.store(y, tl.reduce(v, 0, larger))",
        "tl.store(y, tl.sum(v, axis=0))",
    ],
)
def test_arithmetic_in_bfloat16_is_refused(body: str) -> None:
    before = "@triton.jit\ndef larger(a, b):\n    return tl.where(a > b, a, b)\n\n\n"
    lines = f"i = tl.arange(0, 16)\nv = tl.load(x + i)\n{body}"
    function = kernel(lines, (("x", DType.BF16), ("y", DType.BF16)), before=before)
    with pytest.raises(InternalError, match="convert to float32 after the load"):
        run(function, (1,), np.ones(16, "bfloat16"), np.ones(16, "bfloat16"))


LIBDEVICE: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in ("cos sin tan cosh sinh tanh exp exp2 expm1 log1p".split())},
    **{name: getattr(np, name) for name in ("floor ceil trunc rint sqrt log log2 log10 cbrt".split())},
    "acos": lambda x: np.arccos(x),
    "asin": lambda x: np.arcsin(x),
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": np.vectorize(math.erf),
    "erfc": np.vectorize(math.erfc),
    "lgamma": np.vectorize(math.lgamma),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "nearbyint": np.rint,
    "abs": np.abs,
}


@pytest.mark.parametrize("name", LIBDEVICE)
def test_libdevice(name: str) -> None:
    body = f"i = tl.arange(0, 32)\ntl.store(y + i, libdevice.{name}(tl.load(x + i)))"
    x = np.linspace(0.05, 0.95, 32, dtype=np.float32) + np.float32(name == "acosh")
    _, y = run(kernel(body, X_TO_Y), (1,), x, np.zeros_like(x))
    np.testing.assert_allclose(y, LIBDEVICE[name](x.astype(np.float64)), rtol=2e-6, atol=1e-7)


def test_libdevice_of_several_operands_and_predicates() -> None:
    body = """
i = tl.arange(0, 8)
v = tl.load(x + i)
nan = libdevice.isnan(v) != 0
bad = nan | (libdevice.isinf(v) != 0)
tl.store(y + i, tl.where(bad, tl.where(nan, -1.0, -2.0), libdevice.pow(v, 2.0) + libdevice.fmod(v, v + 1)))
"""
    x = np.array([1, 2, np.nan, np.inf, 3, -np.inf, 0, 4], np.float32)
    _, y = run(kernel(body, X_TO_Y), (1,), x, np.zeros_like(x))
    np.testing.assert_array_equal(y, [2, 6, -1, -2, 12, -2, 0, 20])


def test_a_libdevice_function_without_an_implementation_is_an_error() -> None:
    function = kernel("tl.store(y, libdevice.cyl_bessel_i0(tl.load(x)))", X_TO_Y)
    with pytest.raises(InternalError, match=r"k fails .* libdevice\.cyl_bessel_i0 is not interpreted"):
        run(function, (1,), np.ones(1, np.float32), np.ones(1, np.float32))


def test_helpers_of_triton_and_of_the_module() -> None:
    before = "@triton.jit\ndef twice(v):\n    return 2 * tl.sigmoid(v)\n\n\n"
    body = """
i = tl.arange(0, 16)
v = twice(tl.load(x + i)) + tl.cdiv(n, 2) + tl.zeros((16,), tl.float32)
v = tl.softmax(v) + tl.cumsum(v, axis=0) + v.sum() + tl.argmax(v, axis=0)
tl.store(y + i, v + tl.max(tl.sort(v), axis=0))
"""
    x = random_array((16,), DType.F32, 6)
    _, y = run(kernel(body, X_TO_Y, ("n",), before=before), (1,), x, np.zeros_like(x), scalars=[5])
    v = 2 / (1 + np.exp(-x.astype(np.float64))) + 3
    e = np.exp(v - v.max())
    v = e / e.sum() + np.cumsum(v) + v.sum() + np.argmax(v)
    np.testing.assert_allclose(y, v + v.max(), rtol=1e-5)


def test_reductions_of_pairs_and_atomics() -> None:
    before = "@triton.jit\ndef add(a, b, c, d):\n    return a + c, b + d\n\n\n"
    body = """
i = tl.arange(0, 16)
v = tl.load(x + i)
s, q = tl.reduce((v, v * v), 0, add)
tl.atomic_add(y, s)
tl.atomic_add(y + 1, q)
"""
    x = np.arange(16, dtype=np.float32)
    _, y = run(kernel(body, X_TO_Y, before=before), (3,), x, np.zeros(2, np.float32))
    np.testing.assert_array_equal(y, [3 * x.sum(), 3 * (x * x).sum()])


def test_scalars_have_the_type_of_the_index() -> None:
    body = "tl.store(y, n * 65536)"
    y = np.zeros(1, np.int64)
    (wide,) = run(kernel(body, (("y", DType.I64),), ("n",), index="i64"), (1,), y, scalars=[65536])
    (narrow,) = run(kernel(body, (("y", DType.I64),), ("n",)), (1,), y, scalars=[65536])
    assert (int(wide[0]), int(narrow[0])) == (1 << 32, 0)


def test_a_grid_has_up_to_three_axes_and_may_be_empty() -> None:
    body = """
at = (tl.program_id(0) * 3 + tl.program_id(1)) * 4 + tl.program_id(2)
tl.store(y + at, at + tl.num_programs(2))
"""
    function = kernel(body, (("y", DType.I32),))
    (y,) = run(function, (2, 3, 4), np.zeros(24, np.int32))
    np.testing.assert_array_equal(y, np.arange(24) + 4)
    (y,) = run(function, (2, 0), np.zeros(24, np.int32))
    assert not y.any()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("tl.store(y + i, tl.load(x + i + 1))", "load of fp32 out of bounds: element 16"),
        ("tl.store(y + i - 1, tl.load(x + i))", "store of fp32 out of bounds: element -1"),
        ("tl.atomic_add(y + 16, 1.0)", "atomic of fp32 out of bounds: element 16"),
        ("tl.store(y + i, tl.load(x + i + 1000000000, mask=i < 1))", "load of fp32 out of bounds"),
    ],
)
def test_accesses_outside_of_the_arrays_are_errors(body: str, message: str) -> None:
    function = kernel(f"i = tl.arange(0, 16)\n{body}", X_TO_Y)
    with pytest.raises(InternalError, match=message):
        run(function, (1,), np.zeros(16, np.float32), np.zeros(16, np.float32))


def test_excluded_elements_may_lie_anywhere() -> None:
    body = "i = tl.arange(0, 16) * 1000000\ntl.store(y + i, tl.load(x + i, mask=i < 1, other=7), mask=i < 1)"
    _, y = run(kernel(body, X_TO_Y), (1,), np.full(4, 3, np.float32), np.zeros(4, np.float32))
    np.testing.assert_array_equal(y, [3, 0, 0, 0])


def test_errors_of_a_kernel_name_function_and_program() -> None:
    function = kernel("tl.store(y + tl.program_id(0), 1.0 + undefined)", X_TO_Y)
    with pytest.raises(InternalError, match=r"function k fails .* program \(0,\): NameError: .*undefined"):
        run(function, (2,), np.zeros(16, np.float32), np.zeros(16, np.float32))


def test_arguments_must_fit() -> None:
    function = kernel("pass", X_TO_Y, ("n",))
    x = np.zeros(64, np.float32)
    wrong: list[tuple[tuple[int, ...], list[Array], list[int], str]] = [
        ((1,), [x], [1], "2 pointers"),
        ((1,), [x, x], [], "1 scalars"),
        ((1,), [x, x.astype(np.float64)], [1], "y as f32, not float64"),
        ((1,), [x.reshape(8, 8), x], [1], "contiguous vector"),
        ((1,), [x, x[::2]], [1], "contiguous vector"),
        ((1,), [x, x[1:]], [1], "aligned to 16 bytes"),
        ((1,), [x, x], [1 << 31], "n as i32"),
        ((), [x, x], [1], "grid"),
        ((-1,), [x, x], [1], "grid"),
    ]
    for grid, arrays, scalars, message in wrong:
        with pytest.raises(InternalError, match=message):
            interpret(function, grid, arrays, scalars)


def language() -> list[dict[str, Any]]:
    """Every attribute that the interpreter might leave changed."""
    import triton.language as tl
    from triton.language.extra import libdevice
    from triton.runtime import interpreter

    classes = [tl.tensor, tl.dtype, tl.condition, interpreter.InterpretedFunction]
    modules = [tl, tl.core, tl.math, tl.standard, tl.random, libdevice, interpreter]
    return [dict(vars(thing)) for thing in [*classes, *modules]]


@pytest.mark.parametrize("body", ["tl.store(y, tl.sigmoid(tl.load(x)))", "undefined()"])
def test_triton_is_as_before(body: str) -> None:
    before = language()
    function = kernel(body, X_TO_Y)
    try:
        run(function, (1,), np.zeros(1, np.float32), np.zeros(1, np.float32))
    except InternalError:
        assert body == "undefined()"
    for old, new in zip(before, language()):
        assert old.keys() == new.keys()
        assert all(new[name] is value for name, value in old.items())


def test_what_was_interpreted_still_compiles() -> None:
    from dlc.backends.triton.binary import compile_function
    from dlc.target import resolve_gpu

    function = gelu(DType.F16, 256)
    for _ in range(2):
        run(function, (1,), np.zeros(8, np.float16), np.zeros(8, np.float16), scalars=[8])
        assert compile_function(function, resolve_gpu("cuda:sm_90")).code.startswith(b"\x7fELF")


def test_threads_take_turns() -> None:
    function, results = gelu(DType.F32, 64), []

    def work(seed: int) -> None:
        x = random_array((64,), DType.F32, seed)
        y = np.zeros_like(x)
        interpret(function, (1,), [x, y], [64])
        results.append(np.array_equal(y > 0, x > 0))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4
