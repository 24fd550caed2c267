"""Scalar operations as Triton source: interpreted, against their NumPy meaning; compiled without a GPU."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dlc.backends.triton.function import TritonFunction
from dlc.backends.triton.semantics import (
    HELPERS,
    LIBDEVICE,
    REGISTER_TYPES,
    NotInTriton,
    binary,
    cast,
    compare,
    constant,
    helpers_of,
    select,
    unary,
)
from dlc.ir.dtypes import DType
from dlc.lowering import scalar
from dlc.lowering.expr import BINARY, COMPARE, UNARY, CastMode
from dlc.lowering.verify_types import is_arithmetic
from tests.backends.triton import ptx

pytest.importorskip("triton")
from dlc.backends.triton.binary import compile_function
from dlc.backends.triton.interpreter import interpret
from dlc.target import resolve_gpu

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

Array = np.ndarray[Any, Any]
HELD = tuple(dtype for dtype in REGISTER_TYPES if dtype is not DType.C64)
NUMBERS = tuple(dtype for dtype in HELD if is_arithmetic(dtype))
INTEGERS = tuple(dtype for dtype in NUMBERS if dtype.is_integer)
POINTS = 1024
RNG = np.random.default_rng(7)

#: Units in the last place between interpreted functions and their exact values; 0 for all others.
ULPS = {"erf": 1, "exp": 3, "log": 4, "log1p": 3, "sigmoid": 4, "softplus": 4, "pow": 4}
ULPS |= dict.fromkeys("sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh".split(), 4)
#: The NumPy meaning overflows on the way, to a result below the least normal number.
UNDERFLOWING = frozenset({"sigmoid"})
#: Functions whose code for f64 calls others, which the emulator does not.
CALLING = frozenset({"sin", "cos", "tan", "pow"})


# -- running source --------------------------------------------------------------------------------


def module(
    outputs: Sequence[tuple[str, DType]],
    inputs: Sequence[tuple[str, DType]],
    points: int,
    place: str | None = None,
) -> TritonFunction:
    """A function that stores each output text, over `inputs` at `place`, to a parameter of its own."""
    lines = [f"i = {place or f'tl.arange(0, {points})'}"]
    for name, dtype in inputs:
        lines.append(f"{name} = tl.load(p_{name} + i)" + (" != 0" if dtype is DType.BOOL else ""))
    for number, (text, dtype) in enumerate(outputs):
        stored = f"({text}).to(tl.uint8)" if dtype is DType.BOOL else text
        lines.append(f"tl.store(out{number} + i, {stored})")
    pointers = [(f"p_{name}", dtype) for name, dtype in inputs]
    pointers += [(f"out{number}", dtype) for number, (_, dtype) in enumerate(outputs)]
    parameters = ", ".join(name for name, _ in pointers)
    body = "".join(f"    {line}\n" for line in lines)
    main = f"@triton.jit\ndef main({parameters}):\n{body}"
    header = (
        "import triton\nimport triton.language as tl\nfrom triton.language.extra import libdevice\n\n"
    )
    text = header + "\n".join([*helpers_of(main), main])
    return TritonFunction("main", text, tuple(pointers), (), (1,))


def interpreted(
    outputs: Sequence[tuple[str, DType]], inputs: Sequence[tuple[str, Array]]
) -> list[Array]:
    """What the interpreter computes for each output text."""
    points = len(inputs[0][1])
    types = [(name, scalar_type(array)) for name, array in inputs]
    results = [np.zeros(points, dtype.numpy) for _, dtype in outputs]
    interpret(module(outputs, types, points), (1,), [array for _, array in inputs] + results)
    return results


def scalar_type(array: Array) -> DType:
    return next(dtype for dtype in DType if dtype.numpy == array.dtype)


def assert_equal(got: Array, want: Array, what: str, operands: Sequence[Array], ulps: float = 0) -> None:
    """Equal, the signs of zeros too, or both NaN; `ulps` units in the last place of `want` apart."""
    assert got.dtype == want.dtype, what
    if got.dtype.kind not in "fV":
        good = got == want
    else:
        p, q = got.astype(np.float64), want.astype(np.float64)
        good = (np.isnan(p) & np.isnan(q)) | ((p == q) & ((np.signbit(p) == np.signbit(q)) | (ulps > 0)))
        if ulps:
            with np.errstate(all="ignore"):
                good |= np.abs(p - q) <= ulps * np.spacing(np.abs(want)).astype(np.float64)
    if not good.all():
        first = int(np.flatnonzero(~good)[0])
        at = ", ".join(str(operand[first]) for operand in operands)
        pytest.fail(f"{what}({at}) = {got[first]}, not {want[first]}; {int((~good).sum())} differ")


# -- operands --------------------------------------------------------------------------------------


def special_numbers(dtype: DType) -> Array:
    """Extremes, zeros, ties and neighbours of powers of two, that `dtype` has."""
    if dtype is DType.BOOL:
        return np.array([False, True])
    if dtype.is_integer:
        low, high = scalar.integer_range(dtype)
        numbers = {low, low + 1, low + 2, high - 1, high, high // 2, high // 3}
        numbers |= {-8, -7, -3, -2, -1, 0, 1, 2, 3, 5, 7, 8, 9, 31, 32, 33, 63, 64, 65, 100}
        return np.array(sorted(n for n in numbers if low <= n <= high), dtype.numpy)
    info = ml_dtypes.finfo(dtype.numpy)
    tiny, least = float(info.tiny), float(info.smallest_subnormal)
    positive = [0.0, least, 3 * least, tiny, float(info.max), np.inf, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5]
    positive += [1 + float(info.eps), 1 - float(info.eps) / 2, 3.0, 3.5, 10.0, 88.5, 100.0, 1e5]
    positive += [2.0**23 + 1, 2.0**24]
    return np.array([*positive, *(-n for n in positive), np.nan], dtype.numpy)


def numbers_of(dtype: DType, count: int = POINTS) -> Array:
    """`count` numbers: the special ones, then random bits (all exponents), then numbers near 1."""
    if dtype.numpy.itemsize == 1 and dtype is not DType.BOOL:
        return np.resize(np.arange(1 << dtype.bits, dtype=np.uint8), max(256, count)).view(dtype.numpy)
    special = special_numbers(dtype)
    if dtype is DType.BOOL:
        return np.resize(special, count)
    bits = RNG.integers(0, 256, count * dtype.itemsize, np.uint8).view(dtype.numpy)
    numbers = np.concatenate([special, bits])[:count]
    near = (RNG.standard_normal(count // 2) * 4).astype(dtype.numpy)
    numbers[count // 2 :] = near if dtype.is_float else numbers[count // 2 :]
    return np.ascontiguousarray(numbers)


def pairs_of(dtype: DType) -> tuple[Array, Array]:
    """Pairs of special numbers, all of them, and of others."""
    special = special_numbers(dtype)
    left, right = (np.array(side, dtype.numpy) for side in zip(*itertools.product(special, special)))
    size = 1 << (len(left) + 256).bit_length()
    rest = size - len(left)
    more, other = numbers_of(dtype, 4 * rest)[-2 * rest :][:rest], numbers_of(dtype, 4 * rest)[-rest:]
    return np.concatenate([left, more]), np.concatenate([right, other])


def float_boundaries(dtype: DType) -> Array:
    """Numbers of a float type at which conversions decide: limits of types, ties, and their neighbours."""
    edges = [2.0**n for n in (-150, -149, -134, -133, -126, -25, -24, -17, -16, -15, -14, -10, -9, -7, -6)]
    edges += [2.0**n for n in (7, 8, 15, 16, 31, 32, 53, 63, 64, 127)]
    edges += [448.0, 464.0, 480.0, 57344.0, 61440.0, 65504.0, 65520.0, 3.3895314e38, 3.3961775292304957e38]
    edges += [n + 0.5 for n in range(12)] + [127.5, 128.5, 255.5, 32767.5, 65535.5]
    fractions = [1 + k / 2**bits for bits in (3, 4, 8, 9, 11, 12) for k in (1, 3, 5)]
    edges += [fraction * 2.0**e for fraction in fractions for e in (-30, -16, -8, 0, 9)]
    edges += [1 + 2.0**-9 + 2.0**-40, 1 + 2.0**-9 - 2.0**-40, 1 + 2.0**-12 + 2.0**-40, 2.0**-9 + 2.0**-40]
    values = np.array([*edges, *(-edge for edge in edges)], np.float64).astype(dtype.numpy)
    near = [np.nextafter(values, dtype.numpy.type(to)) for to in (np.inf, -np.inf)]
    return np.concatenate([values, *near])


def convertible(dtype: DType) -> Array:
    """Numbers of `dtype` to convert."""
    if dtype.bits == 16 and dtype.is_float:
        return np.arange(1 << 16, dtype=np.uint16).view(dtype.numpy)
    if dtype in (DType.F32, DType.F64):
        numbers = np.concatenate([float_boundaries(dtype), numbers_of(dtype, 4096)])
        return numbers[:4096]
    return numbers_of(dtype)


# -- interpreted against the meaning in NumPy ------------------------------------------------------


def functions(dtype: DType, names: frozenset[str], operands: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The functions that there are of `dtype`, with their texts."""
    for fn in sorted(names):
        try:
            yield fn, (unary if len(operands) == 1 else binary)(fn, dtype, *operands)
        except NotInTriton:
            continue


@pytest.mark.parametrize("dtype", [*NUMBERS, DType.BOOL], ids=repr)
def test_functions_of_one_operand(dtype: DType) -> None:
    x = numbers_of(dtype)
    found = dict(functions(dtype, UNARY, ["x"]))
    assert found.keys() == (UNARY - {"not"} if dtype.is_float else expected_of_integers(dtype))
    outputs = [(text, DType.BOOL if fn == "is_nan" else dtype) for fn, text in found.items()]
    for fn, got in zip(found, interpreted(outputs, [("x", x)])):
        check_unary(fn, x, got)


def check_unary(fn: str, x: Array, got: Array) -> None:
    want = scalar.unary(fn, x)
    if fn in UNDERFLOWING:
        got = np.where(np.abs(got) < np.finfo(got.dtype).tiny, want, got)
    assert_equal(got, want, f"{fn} of {x.dtype}", [x], ULPS.get(fn, 0))


def expected_of_integers(dtype: DType) -> set[str]:
    return {"not"} if dtype is DType.BOOL else {"not", "abs", "neg", "sign"}


@pytest.mark.parametrize("dtype", [*NUMBERS, DType.BOOL], ids=repr)
def test_functions_of_two_operands(dtype: DType) -> None:
    x, y = pairs_of(dtype)
    found = dict(functions(dtype, BINARY, ["x", "y"]))
    bitwise = {"and", "or", "xor"}
    shifts = {"shift_left", "shift_right"}
    every = BINARY - bitwise - shifts if dtype.is_float else bitwise if dtype is DType.BOOL else BINARY
    assert found.keys() == every
    outputs = [(text, dtype) for text in found.values()]
    for fn, got in zip(found, interpreted(outputs, [("x", x), ("y", y)])):
        check_binary(fn, x, y, got)


def check_binary(fn: str, x: Array, y: Array, got: Array) -> None:
    want = scalar.binary(fn, x, y)
    if x.dtype.kind == "f" and fn in ("max", "min"):
        got, want = got + 0.0, want + 0.0  # zeros of either sign
    assert_equal(got, want, f"{fn} of {x.dtype}", [x, y], ULPS.get(fn, 0) if x.dtype.kind == "f" else 0)


@pytest.mark.parametrize("dtype", [*NUMBERS, DType.BOOL], ids=repr)
def test_comparisons(dtype: DType) -> None:
    x, y = pairs_of(dtype)
    names = ["eq", "ne"] if dtype is DType.BOOL else sorted(COMPARE)
    outputs = [(compare(fn, dtype, "x", "y"), DType.BOOL) for fn in names]
    for fn, got in zip(names, interpreted(outputs, [("x", x), ("y", y)])):
        assert_equal(got, scalar.compare(fn, x, y), f"{fn} of {dtype.text}", [x, y])


@pytest.mark.parametrize("dtype", HELD, ids=repr)
def test_selection_keeps_bits(dtype: DType) -> None:
    x, y = numbers_of(dtype), np.ascontiguousarray(numbers_of(dtype)[::-1])
    condition = RNG.random(len(x)) < 0.5
    (got,) = interpreted([(select("c", "x", "y"), dtype)], [("c", condition), ("x", x), ("y", y)])
    assert got.tobytes() == np.where(condition, x, y).tobytes()


def casts(source: DType) -> list[tuple[DType, CastMode]]:
    """The conversions of `source` that are not the identity."""
    return [
        (target, mode)
        for target in HELD
        for mode in CastMode
        if target is not source and (mode is not CastMode.BITS or target.bits == source.bits)
    ]


@pytest.mark.parametrize("source", HELD, ids=repr)
def test_conversions(source: DType) -> None:
    x = convertible(source)
    wanted = casts(source)
    outputs = [(cast(source, target, mode, "x"), target) for target, mode in wanted]
    for (target, mode), got in zip(wanted, interpreted(outputs, [("x", x)])):
        check_cast(source, target, mode, x, got)


def check_cast(source: DType, target: DType, mode: CastMode, x: Array, got: Array) -> None:
    if mode is CastMode.BITS and target is DType.BOOL:
        want = x.view(np.uint8) != 0  # what other bytes than 0 and 1 are is nobody's concern
    else:
        want = scalar.convert(x, source, target, mode)
    if target is DType.F4E2M1 and source.is_float:
        missing = np.isnan(x.astype(np.float64))  # becomes a zero of any sign
        assert (got[missing] == 0).all()
        x, got, want = x[~missing], got[~missing], want[~missing]
    assert_equal(got, want, f"{target.text}.{mode.value} of {source.text}", [x])


@pytest.mark.parametrize("dtype", HELD, ids=repr)
def test_constants_keep_bits(dtype: DType) -> None:
    numbers = numbers_of(dtype)[:256:5] if dtype.bits == 8 and dtype.is_float else special_numbers(dtype)
    texts = [constant(number.item(), dtype) for number in numbers]
    outputs = [(select("x", text, text), dtype) for text in texts]
    for number, got in zip(numbers, interpreted(outputs, [("x", np.array([True, False]))])):
        assert_equal(got, np.array([number, number]), "constant", [numbers])


@pytest.mark.parametrize("dtype", [DType.I32, DType.I64], ids=repr)
def test_index_arithmetic(dtype: DType) -> None:
    x = np.array(list(range(-64, 64)) * 8, dtype.numpy)
    y = np.repeat(np.array([1, 2, 3, 4, 5, 7, 8, 64], dtype.numpy), 128)
    texts = ["index_floordiv(x, y)", "index_mod(x, y)", "index_floordiv(x, 3)", "index_mod(x, 4)"]
    texts += ["index_broadcast(x, y)", "index_broadcast(y, x)"]
    want = [x // y, x % y, x // 3, x % 4, np.where(x == 1, y, x), np.where(y == 1, x, y)]
    for text, got, right in zip(texts, interpreted([(t, dtype) for t in texts], [("x", x), ("y", y)]), want):
        assert_equal(got, right.astype(dtype.numpy), text, [x, y])


# -- what there is ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [DType.C128, DType.STRING], ids=repr)
def test_types_that_triton_has_not(dtype: DType) -> None:
    for attempt in (
        lambda: constant(0, dtype),
        lambda: cast(dtype, DType.F32, CastMode.RNE, "x"),
        lambda: cast(DType.I8, dtype, CastMode.WRAP, "x"),
        lambda: unary("neg", dtype, "x"),
        lambda: binary("add", dtype, "x", "y"),
        lambda: compare("lt", dtype, "x", "y"),
    ):
        with pytest.raises(NotInTriton, match=dtype.text):
            attempt()


def test_narrow_floats_have_no_arithmetic() -> None:
    with pytest.raises(NotInTriton, match="exp of bf16"):
        unary("exp", DType.BF16, "x")
    with pytest.raises(NotInTriton, match="add of f16"):
        binary("add", DType.F16, "x", "y")


def test_helpers_come_after_what_they_call() -> None:
    assert helpers_of("tl.store(p, libdevice.fmod(x, y) + a.mod_signed(b))") == ()
    texts = helpers_of("z = pow_signed(x, y) + mod_signed(x, wrap_to_u64(y))")
    assert [re.findall(r"def (\w+)", text)[0] for text in texts] == [
        *("fmod_signed", "mod_signed", "pow_unsigned", "pow_signed", "wrap_to_i64", "wrap_to_u64")
    ]


def test_libdevice_has_what_is_called() -> None:
    from triton.language.extra import libdevice

    texts = [*HELPERS.values()]
    texts += [text for dtype in NUMBERS for _, text in functions(dtype, UNARY, ["x"])]
    texts += [text for dtype in NUMBERS for _, text in functions(dtype, BINARY, ["x", "y"])]
    texts += [cast(source, target, mode, "x") for source in HELD for target, mode in casts(source)]
    called = {name for text in texts for name in re.findall(r"libdevice\.(\w+)", text)}
    assert called == LIBDEVICE
    assert all(hasattr(libdevice, name) for name in LIBDEVICE)


# -- compiled --------------------------------------------------------------------------------------


def compiled(function: TritonFunction, capability: int) -> str:
    """The PTX of a function for one warp; raises where Triton does not compile it."""
    gpu = resolve_gpu(f"cuda:sm_{capability}")
    return compile_function(dataclasses.replace(function, num_warps=1), gpu).assembly


def emulated(
    outputs: Sequence[tuple[str, DType]], inputs: Sequence[tuple[str, Array]], capability: int
) -> list[Array]:
    """What the code compiled for GPUs of `capability` computes for each output text."""
    types = [(name, scalar_type(array)) for name, array in inputs]
    points = len(inputs[0][1])
    results = [np.zeros(points, dtype.numpy) for _, dtype in outputs]
    function = module(outputs, types, 32, "tl.program_id(0) * 32 + tl.arange(0, 32)")
    ptx.run(compiled(function, capability), [array for _, array in inputs] + results, points // 32)
    return results


@pytest.mark.parametrize("dtype", [*NUMBERS, DType.BOOL], ids=repr)
def test_compiled_functions(dtype: DType) -> None:
    x, y = pairs_of(dtype)
    left_out = CALLING if dtype is DType.F64 else frozenset()
    one = dict(functions(dtype, UNARY - left_out, ["x"]))
    two = dict(functions(dtype, BINARY - left_out, ["x", "y"]))
    comparisons = ["eq", "ne"] if dtype is DType.BOOL else sorted(COMPARE)
    outputs = [(text, DType.BOOL if fn == "is_nan" else dtype) for fn, text in one.items()]
    outputs += [(text, dtype) for text in two.values()]
    outputs += [(compare(fn, dtype, "x", "y"), DType.BOOL) for fn in comparisons]
    results = iter(emulated(outputs, [("x", x), ("y", y)], 90))
    for fn in one:
        check_unary(fn, x, next(results))
    for fn in two:
        check_binary(fn, x, y, next(results))
    for fn in comparisons:
        assert_equal(next(results), scalar.compare(fn, x, y), f"{fn} of {dtype.text}", [x, y])


#: Floats that Triton converts itself; f8e4m3fn from sm_89 on.
OLDER = [DType.F64, DType.F32, DType.F16, DType.BF16, DType.F8E5M2]


@pytest.mark.parametrize(
    ("source", "capability"), [*((dtype, 90) for dtype in HELD), *((dtype, 80) for dtype in OLDER)], ids=str
)
def test_compiled_conversions(source: DType, capability: int) -> None:
    x = convertible(source)
    wanted = [c for c in casts(source) if capability >= 89 or c[0] is not DType.F8E4M3FN]
    outputs = [(cast(source, target, mode, "x"), target) for target, mode in wanted]
    outputs.append((select("(i % 2 == 0)", "x", constant(1, source)), source))
    *converted, selected = emulated(outputs, [("x", x)], capability)
    for (target, mode), got in zip(wanted, converted):
        check_cast(source, target, mode, x, got)
    ones = np.ones(len(x), source.numpy)
    assert selected.tobytes() == np.where(np.arange(len(x)) % 2 == 0, x, ones).tobytes()


@pytest.mark.parametrize("dtype", [DType.F64, DType.F32, DType.I64, DType.U8], ids=repr)
def test_functions_compile_for_older_gpus(dtype: DType) -> None:
    outputs = [(text, DType.BOOL if fn == "is_nan" else dtype) for fn, text in functions(dtype, UNARY, ["x"])]
    outputs += [(text, dtype) for _, text in functions(dtype, BINARY, ["x", "y"])]
    assert ".target sm_80" in compiled(module(outputs, [("x", dtype), ("y", dtype)], 32), 80)


def test_compiled_divisions_and_roots_round_to_nearest() -> None:
    dtype = DType.F32
    texts = [binary("div", dtype, "x", "y"), unary("sqrt", dtype, "x"), unary("reciprocal", dtype, "x")]
    code = compiled(module([(text, dtype) for text in texts], [("x", dtype), ("y", dtype)], 32), 90)
    instructions = set(re.findall(r"\b(?:div|rcp|sqrt)\.[\w.]+", code))
    assert instructions == {"div.rn.f32", "sqrt.rn.f32"}


def test_the_emulator_tells_wrong_code() -> None:
    x, y = pairs_of(DType.I8)
    (got,) = emulated([("x // tl.where(y == 0, 1, y)", DType.I8)], [("x", x), ("y", y)], 90)
    differs = got != scalar.binary("div", x, y)
    assert differs.any()
    assert set(y[differs].tolist()) <= {0, -1}
